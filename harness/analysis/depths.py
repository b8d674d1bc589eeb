"""Scores of needles by the length of the context and by where in it they lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import ScoreRow, reasons, said_of, titles, with_length
from harness.analysis.shown import Model, Number, Spot, sampled_number_of, trained_lengths
from harness.errors import UserError
from harness.records.samples import Sample
from harness.records.stats import mean_interval
from tasks.families import unit_of

BINS = 10
"""Parts of a context, from its beginning to its end."""
OF_SEVERAL_PLACES = ("edit_forget", "qa_2")
"""Tasks of one answer whose documents say the places of all their lines or texts."""
OF_ONE_PLACE = ("qa_1",)
"""Tasks whose references are spellings of one answer."""


@dataclass(frozen=True, kw_only=True)
class DepthRow(ScoreRow):
    """The mean score of the samples of one length whose needle lies in one part of the context.

    Attributes:
        length: tokens.
        begin: of the part, as a share of the context from its beginning.
        end: of the part; a needle at 1 belongs to the last part.
    """

    length: int
    begin: float
    end: float


def has_mean_depths(task: str, samples: Iterable[Sample]) -> bool:
    """Whether the depths of a task's samples are means of several places, as where several values are asked for."""
    deep = [sample for sample in samples if sample.depth is not None]
    if task in OF_SEVERAL_PLACES + OF_ONE_PLACE:
        return bool(deep) and task in OF_SEVERAL_PLACES
    return any(len(sample.references) > 1 for sample in deep)


def mean_depths_note(tasks: Iterable[str]) -> str:
    """What is to be known of depths that are means."""
    said = ", ".join(dict.fromkeys(tasks))
    return f"{said}: a sample's depth is the mean of several places, so samples lie about the middle of the context"


def by_depth(models: Sequence[Model], spots: Sequence[Spot]) -> PictureData[DepthRow]:
    """Scores over length and depth.

    Raises:
        UserError: no run has samples that can be read and say how deep their needles lie.
    """
    rows: list[DepthRow] = []
    notes: list[str] = []
    for model in models:
        for spot in with_length(spots):
            if unit_of(spot.column.metric) == "share":
                rows += _rows(model, spot, notes)
    if not rows:
        raise UserError(
            f"{titles(models)}: no run has samples.jsonl.gz with depths of needles beside its record; run it again: "
            f"--tasks niah_single_1@1024{reasons(notes)}"
        )
    return PictureData("depth", tuple(rows), tuple(dict.fromkeys(notes)), trained_lengths(models))


def _rows(model: Model, spot: Spot, notes: list[str]) -> list[DepthRow]:
    number = sampled_number_of(model, spot, notes)
    if number is None:
        return []
    bins: dict[int, list[float]] = {}
    asked = number.run.samples.get(number.cell.lm_eval_name, [])
    if has_mean_depths(spot.column.task, asked):
        notes.append(mean_depths_note([spot.column.task]))
    for sample in asked:
        score = sample.finite(spot.column.metric)
        if sample.depth is not None and score is not None:
            bins.setdefault(bin_of(sample.depth), []).append(score)
    return [_row(number, part, scores) for part, scores in sorted(bins.items())]


def bin_of(depth: float, bins: int = BINS) -> int:
    """The part of the context, of so many equal ones, in which a depth lies, counted from 0."""
    return min(int(depth * bins + 1e-9), bins - 1)


def _row(number: Number, part: int, scores: list[float]) -> DepthRow:
    low, high = mean_interval(scores) or (None, None)
    said = {**said_of(number), "value": sum(scores) / len(scores), "low": low, "high": high, "n": len(scores)}
    length = number.spot.column.length or 0
    return DepthRow(**said, length=length, begin=part / BINS, end=(part + 1) / BINS)
