"""Scores of generated text. Pure functions of a document and its response."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.score_names import known_as

_CONTROL = re.compile(r"[\x00-\x1f]")


def string_match_all(prediction: str, references: Sequence[str]) -> float:
    """RULER's score of needle tasks: the fraction of references that occur in the prediction, case ignored.

    Source: NVIDIA/RULER scripts/eval (0 to 1 here, times 100 there). No references score 0.
    """
    if not references:
        return 0.0
    text = _CONTROL.sub("\n", prediction.strip()).strip().lower()
    return sum(reference.lower() in text for reference in references) / len(references)


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """RULER's score of questions: 1 if any reference occurs in the prediction, case ignored; otherwise 0.

    Source: NVIDIA/RULER scripts/eval. lm-eval's port gives the fraction of references instead.
    """
    return float(string_match_all(prediction, references) > 0)


def contains(prediction: str, references: Sequence[str]) -> float:
    """1 if any reference occurs literally in the prediction, case ignored; otherwise 0.

    Source: the recall tasks of Just Read Twice (HazyResearch/prefix-linear-attention). Nothing else is normalised.
    """
    return float(any(re.search(re.escape(reference), prediction, re.IGNORECASE) for reference in references))


def find_words(reference: str, text: str) -> int:
    """Find where a reference first occurs in a text as words of its own, case ignored; -1 if nowhere.

    "200" does not occur in "1,200", "2001" or "200.5", nor "us" in "must". An end of the reference that is no letter or
    digit needs no border: "2%" occurs in "2%s".
    """
    before = r"(?<!\w)" * _is_word(reference[:1]) + r"(?<!\d[.,])" * reference[:1].isdigit()
    after = r"(?!\w)" * _is_word(reference[-1:]) + r"(?![.,]\d)" * reference[-1:].isdigit()
    match = re.search(before + re.escape(reference) + after, text, re.IGNORECASE)
    return match.start() if match else -1


def contains_words(prediction: str, references: Sequence[str]) -> float:
    """1 if any reference occurs in the first line that is not empty, as words of its own, case ignored; otherwise 0.

    The score of this project's own retrieval tasks: of an answer that begins with empty lines it is not the format that
    is scored, and no reference is found inside of other words.
    """
    line = first_line(prediction)
    return float(any(find_words(reference, line) >= 0 for reference in references))


def first_line(answer: str) -> str:
    """The first line that is not empty, without white space at its ends."""
    return next((line.strip() for line in answer.splitlines() if line.strip()), "")


def _is_word(character: str) -> bool:
    return re.fullmatch(r"\w", character) is not None


def token_f1(prediction: str, reference: str) -> float:
    """F1 of the words of two texts as SQuAD counts them: lower case, no punctuation, no articles; 0 to 1.

    Source: arXiv:1606.05250 and its evaluation; two texts without words are equal.
    """
    given, wanted = _words(prediction), _words(reference)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((given & wanted).values())
    return 2 * common / (given.total() + wanted.total())


def _words(text: str) -> Counter[str]:
    plain = "".join(character for character in text.lower() if character not in string.punctuation)
    return Counter(word for word in plain.split() if word not in ("a", "an", "the"))


@known_as("tasks.scoring.score_needles")
def score_needles(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results` of needle tasks: metric `acc`."""
    return {"acc": string_match_all(results[0], doc["outputs"])}


@known_as("tasks.scoring.score_any")
def score_any(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results` of RULER's questions: metric `acc`."""
    return {"acc": string_match_part(results[0], doc["outputs"])}


@known_as("tasks.scoring.score_contains")
def score_contains(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results` of retrieval tasks: metric `contains`."""
    return {"contains": contains(results[0], doc["outputs"])}


@known_as("tasks.scoring.score_words")
def score_words(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """lm-eval's `process_results` of this project's own retrieval tasks: metric `contains`, as words in one line."""
    return {"contains": contains_words(results[0], doc["outputs"])}


@known_as("tasks.scoring.score_stripped_value")
def score_stripped_value(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The same against `value`, stripped: lm-eval 0.4.13's score of swde, fda and squad_completion."""
    return {"contains": contains(results[0], [doc["value"].strip()])}


def appear_only(config: Mapping[str, Any]) -> bool:
    """Whether a task's score asks only if references (the `outputs` of its documents) appear.

    More text never lowers such a score, and none is gained once all references have appeared.
    """
    return config.get("process_results") in (score_needles,)
