"""Pictures of trainings with several seeds: the mean of each, with an interval over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TypeVar

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import ScoreRow, titles
from harness.analysis.shown import Model
from harness.errors import UserError
from harness.records.seed_rows import LEAST_SEEDS, mean_of_seeds
from harness.records.trainings import Said, by_training, said_of, seeds_twice

Row = TypeVar("Row", bound=ScoreRow)
OF_A_NUMBER = ("model", "value", "low", "high", "n", "source", "num_seeds")  # all else says where it belongs


def over_seeds(data: PictureData[Row], models: Sequence[Model]) -> PictureData[Row]:
    """Put the mean of each training in the place of its seeds.

    Args:
        data: rows of all models.
        models: whose rows they are. Those whose records name one recipe, and no seed twice, are the seeds of one
            training; others stay as they are.

    Returns:
        The data with one model for each training. An interval is Student's over the seeds, from three of them on; `n`
        is the fewest documents of a seed.

    Raises:
        UserError: none of the models are seeds of one training.
    """
    trainings = by_training(models, _said, _title, {row.model for row in data.rows})
    twice = seeds_twice([(model.title, _said(model)) for model in models])
    if not trainings:
        none = (
            f"of {titles(models)} no two are seeds of one training, as their records say; leave it out, or name the "
            "checkpoints of several seeds"
        )
        raise UserError(f"--seeds: {'; '.join(twice) or none}")
    training_of = {model.title: name for name, seeds in trainings.items() for model in seeds}
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in data.rows:
        groups.setdefault((training_of.get(row.model, row.model), *_place(row)), []).append(row)
    rows = [
        _mean(str(key[0]), rows) if key[0] in trainings else rows[0]
        for key, rows in groups.items()
        if key[0] not in trainings or len(rows) == len(trainings[str(key[0])])
    ]
    trained = {training_of.get(title, title): length for title, length in data.trained.items()}
    return replace(data, rows=tuple(rows), notes=(*data.notes, *_notes(trainings, groups), *twice), trained=trained)


def _said(model: Model) -> Said:
    return said_of(run.record for run in model.runs)


def _title(model: Model) -> str:
    return model.title


def _place(row: ScoreRow) -> tuple[object, ...]:
    return tuple(getattr(row, field.name) for field in fields(row) if field.name not in OF_A_NUMBER)


def _mean(name: str, seeds: Sequence[Row]) -> Row:
    value, low, high, _ = mean_of_seeds([row.value for row in seeds], seeds[0].unit, 1.0)
    source = "; ".join(row.source for row in seeds)
    n = min(row.n for row in seeds)
    return replace(seeds[0], model=name, value=value, low=low, high=high, n=n, source=source, num_seeds=len(seeds))


def _notes(trainings: dict[str, list[Model]], groups: dict[tuple[object, ...], list[Row]]) -> list[str]:
    counts = {name: len(seeds) for name, seeds in trainings.items()}
    said = ", ".join(f"{name} ({count})" for name, count in counts.items())
    few = [name for name, count in counts.items() if count < LEAST_SEEDS]
    bands = "; bands are Student's intervals over them" if len(few) < len(counts) else ""
    notes = [f"means over the seeds of trainings: {said}{bands}"]
    if few:
        notes.append(f"no interval, fewer than {LEAST_SEEDS} seeds: {', '.join(few)}")
    enough = {name: count for name, count in counts.items() if count >= LEAST_SEEDS}
    whole = [(str(key[0]), rows) for key, rows in groups.items() if len(rows) == enough.get(str(key[0]))]
    if alike := {name for name, rows in whole if len({row.value for row in rows}) == 1}:
        notes.append(f"no interval where all seeds are alike: {', '.join(sorted(alike))}")
    if gaps := {str(key[0]) for key, rows in groups.items() if key[0] in counts and len(rows) < counts[str(key[0])]}:
        notes.append(f"left out where a seed has no number: {', '.join(sorted(gaps))}")
    return notes
