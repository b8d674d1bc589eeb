"""What the rows of a data set hold, beyond the names of their columns: labels, choices, line ends, titles.

Two editions of a data set can have the same columns and other texts: LAMBADA with its line ends and without, BoolQ
with the titles of SuperGLUE and without. Scores of the two are not comparable, so that rows are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.errors import TaskError

RowTest = Callable[[Mapping[str, Any]], str | None]
"""What is wrong with a row; None if nothing is."""
TRAINING = "_train"


def check_rows(where: str, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Look at the rows of a data set.

    Args:
        where: what holds them, for messages.
        name: the staged file's name; training rows are looked at as the others of their data set are.
        rows: all of them.

    Raises:
        TaskError: a label out of its range, choices that do not fit their labels, or texts of another edition.
    """
    data_set = name.rsplit(".", 1)[0].removesuffix(TRAINING)
    for number, row in enumerate(rows, start=1):
        for test in OF_ROWS.get(data_set, ()):
            if (wrong := test(row)) is not None:
                raise TaskError(f"{where}, row {number}: {wrong}; this is another data set or edition, stage it again")
    for column, text, meaning in OF_ALL.get(data_set, ()):
        if rows and not any(text in str(row[column]) for row in rows):
            raise TaskError(
                f"{where}: no {column!r} of {len(rows):,} rows has {text!r}, {meaning}; this is another edition of the "
                f"data set, whose scores are not comparable: stage it again"
            )


def _one_of(column: str, *values: str | int) -> RowTest:
    """A label within its range, of the type that templates take."""

    def test(row: Mapping[str, Any]) -> str | None:
        found = row[column]
        if any(type(found) is type(value) and found == value for value in values):
            return None
        return f"{column!r} is {found!r}, not one of {', '.join(map(repr, values))}"

    return test


def _texts(*columns: str) -> RowTest:
    """Columns that hold text."""

    def test(row: Mapping[str, Any]) -> str | None:
        empty = [column for column in columns if not isinstance(row[column], str) or not row[column].strip()]
        return f"{empty[0]!r} is {row[empty[0]]!r}, not a text" if empty else None

    return test


def _four_endings(row: Mapping[str, Any]) -> str | None:
    endings = row["endings"]
    whole = isinstance(endings, list) and len(endings) == 4
    return None if whole else f"'endings' is {endings!r:.60}, not a list of four"


def _gap(row: Mapping[str, Any]) -> str | None:
    return None if "_" in str(row["sentence"]) else f"'sentence' has no gap: {row['sentence']!r:.60}"


def _labelled_choices(row: Mapping[str, Any]) -> str | None:
    """Choices as `{text: [...], label: [...]}`, the answer's label among them."""
    choices = row["choices"]
    texts, labels = (choices.get(key) for key in ("text", "label")) if isinstance(choices, dict) else (None, None)
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels) or len(texts) < 2:
        return f"'choices' is {choices!r:.60}, not texts with as many labels"
    answer = row["answerKey"]
    if not isinstance(answer, str) or answer.strip() not in labels:
        return f"'answerKey' is {answer!r}, not one of {', '.join(map(repr, labels))}"
    return None


OF_ROWS: dict[str, tuple[RowTest, ...]] = {
    "piqa": (_one_of("label", 0, 1), _texts("goal")),
    "hellaswag": (_one_of("label", "0", "1", "2", "3"), _four_endings),
    "winogrande": (_one_of("answer", "1", "2"), _gap),
    "arc_easy": (_texts("question"), _labelled_choices),
    "arc_challenge": (_texts("question"), _labelled_choices),
    "openbookqa": (_texts("question_stem"), _labelled_choices),
    "social_iqa": (_one_of("label", "1", "2", "3"), _texts("context", "question")),
    "boolq": (_one_of("label", 0, 1), _texts("passage", "question")),
    "wikitext": (_texts("page"),),
    "lambada_openai": (_texts("text"),),
    "olmo_lambada": (_texts("text"),),
    "olmo_squad": (_texts("context", "question"),),
    "olmo_drop": (_texts("context", "question"),),
    "olmo_coqa": (_texts("context", "question"),),
}
"""By data set, what every row must be."""
OF_ALL: dict[str, tuple[tuple[str, str, str], ...]] = {
    "wikitext": (("page", " @", "the marks of WikiText's tokenisation"),),
    "lambada_openai": (("text", "\n", "the line ends of OpenAI's text"),),
    "boolq": (("passage", " -- ", "the title in front of SuperGLUE's passages"),),
}
"""By data set (column, text, meaning): what some row must have in a column."""
