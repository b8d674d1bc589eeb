"""What a picture of a study draws: accuracy over pairs, over writes of fewer keys, and over lengths of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from basis.names import way_out
from gdn2.train.synthetic.languages import Language
from gdn2.train.synthetic.recall import Recall
from harness.analysis.picture_data import PictureData
from harness.errors import UserError
from harness.study.summary import summarise

if TYPE_CHECKING:
    from gdn2.train.synthetic.spec import Task
    from harness.study.plan import Study
    from harness.study.results import StudyResults
    from harness.study.summary import ModelSummary


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A model at a test.

    Attributes:
        model: its name in the study.
        rate: its learning rate, the best of the grid.
        kind: what belongs into one panel: `recall` where each key is written once, `overwriting` where some are written
            again, or a language, such as `parity`, with what sets its rows apart, such as `, every token`.
        test: its name in tables.
        keys: different keys, each of which is asked once; None of a language.
        writes: pairs that are written; None of a language.
        length: tokens of a row, of the longest one where they differ.
        shortest: tokens of the shortest row where rows of a language differ in length; else None.
        trained: tokens of the longest row of the language in training; None of recall, and where there is none.
        chance: the accuracy of a guess from 0 to 1; None of recall.
        value: accuracy from 0 to 1, mean over seeds.
        low: lower end of the 95 % interval of the mean (Student's t over seeds); None for a single seed.
        high: upper end.
        seeds: the accuracy of each seed.
    """

    model: str
    rate: float | None
    kind: str
    test: str
    keys: int | None
    writes: int | None
    length: int
    shortest: int | None
    trained: int | None
    chance: float | None
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]

    @property
    def size(self) -> int:
        """How hard the test is: pairs that are written, or tokens of a row of a language."""
        return self.length if self.writes is None else self.writes


def over_tests(results: StudyResults, patterns: Sequence[str] = ()) -> PictureData[StudyRow]:
    """Each trained model at every test, in the order of the study's file; tests by size, recall before languages.

    Args:
        results: of the study.
        patterns: names of models, or patterns such as `KDA*`, in any case of letters; none: every model.

    Returns:
        The rows; the notes name the models that have none, runs that failed, and models with fewer seeds than asked.

    Raises:
        UserError: no model has what chooses its rate, none of those that are asked for, or a pattern fits no model.
    """
    tests, trained = _tests(results.study), _trained(results.study)
    chosen = _chosen(results.study, patterns)
    every = summarise(results)
    models = [model for model in every if model.name in chosen]
    if not models:
        raise UserError(_nothing(results, chosen, [model.name for model in every]))
    rows = tuple(_row(model, kind, test, trained) for model in models for kind in tests for test in tests[kind])
    return PictureData("study", rows, _notes(results, models, chosen))


def _nothing(results: StudyResults, chosen: Sequence[str], others: Sequence[str]) -> str:
    """Why there is no picture, and what to do."""
    study, where = results.study, results.folder
    command = f"study {study.called} --output {where.parent.parent}"
    if all(results.has_failed(name) for name in chosen):
        reason = next(words for run, words in results.failed() if run.model == chosen[0])
        return f"{where}: {'; '.join(chosen)}: failed at every rate ({reason}); `{command} --retry` does the runs again"
    if others:
        return (
            f"{where}: {'; '.join(chosen)}: no finished runs at all rates, which `{command}` does; "
            f"there are those of {'; '.join(others)}"
        )
    return (
        f"{where}: no model of the study {study.name} has finished runs at all rates; `{command}` does them, or "
        f"--results names the folder in which {study.name} lies"
    )


def _chosen(study: Study, patterns: Sequence[str]) -> list[str]:
    """The models that a pattern fits."""
    fits = {pattern: [name for name in study.models if _fits(name, pattern)] for pattern in patterns}
    for pattern, names in fits.items():
        if not names:
            raise UserError(f"--models {pattern}: the study has no such model; {way_out(pattern, study.models)}")
    return [name for name in study.models if not patterns or any(name in names for names in fits.values())]


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name.lower(), pattern.lower())


def _tests(study: Study) -> dict[str, list[Task]]:
    """The tests of each kind by size: recall, overwriting, then languages in the order of the file."""
    found: dict[str, list[Task]] = {"recall": [], "overwriting": []}
    for test in _tasks(study, "tests"):
        found.setdefault(_kind(test), []).append(test)
    return {kind: sorted(tests, key=_size) for kind, tests in found.items() if tests}


def _trained(study: Study) -> dict[str, int]:
    """Tokens of the longest row in training by language."""
    found: dict[str, int] = {}
    for task in _tasks(study, "train"):
        if isinstance(task, Language):
            found[task.language] = max(task.length, found.get(task.language, 0))
    return found


def _tasks(study: Study, part: str) -> tuple[Task, ...]:
    from gdn2.train.synthetic.spec import read_tasks

    return read_tasks(study.shared[part], study.path, part)


def _kind(test: Task) -> str:
    if isinstance(test, Recall):
        return "recall" if test.pairs == test.keys else "overwriting"
    differing = "" if _shortest(test) is None else ", up to a length"
    return test.language + differing + (", every token" if test.asked == "every" else "")


def _size(test: Task) -> tuple[int, int, int]:
    return (test.pairs, test.keys, test.length) if isinstance(test, Recall) else (test.length, test.shortest, 0)


def _shortest(test: Language) -> int | None:
    return test.shortest if 0 < test.shortest < test.length else None


def _row(model: ModelSummary, kind: str, test: Task, trained: Mapping[str, int]) -> StudyRow:
    found = model.tests[test.label]
    pairs: dict[str, int | None] = {"keys": None, "writes": None}
    own: dict[str, Any] = {"shortest": None, "trained": None, "chance": None}
    if isinstance(test, Recall):
        pairs = {"keys": test.keys, "writes": test.pairs}
    else:
        own = {"shortest": _shortest(test), "trained": trained.get(test.language), "chance": test.chance}
    return StudyRow(
        model=model.name,
        rate=model.rate,
        kind=kind,
        test=test.label,
        length=test.length,
        value=found.mean,
        low=found.low,
        high=found.high,
        seeds=found.values,
        **pairs,
        **own,
    )


def _notes(results: StudyResults, models: list[ModelSummary], chosen: Sequence[str]) -> tuple[str, ...]:
    asked = results.study.seeds.count
    by_seeds: dict[int, list[str]] = {}
    for model in models:
        by_seeds.setdefault(model.seeds, []).append(model.name)
    notes = [f"{'; '.join(found)}: {n} of {asked} seeds" for n, found in sorted(by_seeds.items()) if n < asked]
    for run, words in ((run, words) for run, words in results.failed() if run.model in chosen):
        notes.append(f"{run.words} failed: {words}")
    shown = {model.name for model in models}
    missing = [name for name in chosen if name not in shown]
    for words, without in (
        ("failed at every rate", [name for name in missing if results.has_failed(name)]),
        ("not trained yet", [name for name in missing if not results.has_failed(name)]),
    ):
        if without:
            notes.append(f"{words}: {'; '.join(without)}")
    return tuple(notes)
