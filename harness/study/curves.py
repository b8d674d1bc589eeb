"""What a picture of a study draws: accuracy over the number of pairs, and over writes where keys are overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from basis.errors import or_near
from harness.analysis.picture_data import PictureData
from harness.errors import UserError
from harness.study.summary import summarise

if TYPE_CHECKING:
    from gdn2.train.synthetic.recall import Recall
    from harness.study.plan import Study
    from harness.study.results import StudyResults
    from harness.study.summary import ModelSummary

Kind = Literal["recall", "overwriting"]


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """A model at a test.

    Attributes:
        model: its name in the study.
        rate: its learning rate, the best of the grid.
        kind: `recall` where each key is written once, else `overwriting`.
        test: its name in tables.
        keys: different keys, each of which is asked once.
        writes: pairs that are written.
        length: tokens of a row.
        value: accuracy from 0 to 1, mean over seeds.
        low: lower end of the 95 % interval of the mean (Student's t over seeds); None for a single seed.
        high: upper end.
        seeds: the accuracy of each seed.
    """

    model: str
    rate: float | None
    kind: Kind
    test: str
    keys: int
    writes: int
    length: int
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]


def over_pairs(results: StudyResults, patterns: Sequence[str] = ()) -> PictureData[StudyRow]:
    """Each trained model at every test of recall, in the order of the study's file; tests by size.

    Args:
        results: of the study.
        patterns: names of models, or patterns such as `KDA*`, in any case of letters; none: every model.

    Returns:
        The rows; the notes name the models that have none, runs that failed, and models with fewer seeds than asked.

    Raises:
        UserError: the study asks for no recall, no model has what chooses its rate, or a pattern fits no model.
    """
    tests, study = _tests(results), results.study
    if not tests:
        raise UserError(f"{study.path}: tests has no recall (length, keys, rows), which plot study shows")
    chosen = _chosen(study, patterns)
    models = [model for model in summarise(results) if model.name in chosen]
    rows = tuple(
        _row(model, test) for model in models for kind in tests for test in tests[kind] if test.label in model.tests
    )
    if not rows:
        raise UserError(
            f"{results.folder}: no model of the study {study.name} has finished runs at all rates; "
            f"`study` with --output {results.folder.parent.parent} trains them"
        )
    return PictureData("study", rows, _notes(results, models, chosen))


def _chosen(study: Study, patterns: Sequence[str]) -> list[str]:
    """The models that a pattern fits."""
    fits = {pattern: [name for name in study.models if _fits(name, pattern)] for pattern in patterns}
    for pattern, names in fits.items():
        if not names:
            known = "; ".join(study.models) + or_near(pattern, study.models)
            raise UserError(f"--models {pattern}: the study has no such model; there are {known}")
    return [name for name in study.models if not patterns or any(name in names for names in fits.values())]


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.lower())


def _tests(results: StudyResults) -> dict[Kind, list[Recall]]:
    """The tests of recall and those with overwriting, each by size."""
    from gdn2.train.synthetic.recall import Recall
    from gdn2.train.synthetic.spec import read_tasks

    found: dict[Kind, list[Recall]] = {}
    study = results.study
    every = [test for test in read_tasks(study.shared["tests"], study.path, "tests") if isinstance(test, Recall)]
    for test in sorted(every, key=lambda test: (test.pairs, test.keys, test.length)):
        found.setdefault(_kind(test), []).append(test)
    return {kind: found[kind] for kind in ("recall", "overwriting") if kind in found}


def _kind(test: Recall) -> Kind:
    return "recall" if test.pairs == test.keys else "overwriting"


def _row(model: ModelSummary, test: Recall) -> StudyRow:
    found = model.tests[test.label]
    return StudyRow(
        model=model.name,
        rate=model.rate,
        kind=_kind(test),
        test=test.label,
        keys=test.keys,
        writes=test.pairs,
        length=test.length,
        value=found.mean,
        low=found.low,
        high=found.high,
        seeds=found.values,
    )


def _notes(results: StudyResults, models: list[ModelSummary], chosen: Sequence[str]) -> tuple[str, ...]:
    asked = results.study.seeds.count
    by_seeds: dict[int, list[str]] = {}
    for model in models:
        by_seeds.setdefault(model.seeds, []).append(model.name)
    notes = [f"{', '.join(found)}: {n} of {asked} seeds" for n, found in sorted(by_seeds.items()) if n < asked]
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
