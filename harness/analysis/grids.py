"""Accuracy by length and by where the answer lies, with the number of samples and an interval for each field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.asked import score_of
from harness.analysis.depths import BINS, bin_of, has_mean_depths
from harness.analysis.entrants import Entrant, ShownCell
from harness.records.stats import mean_interval

COARSE = 5
FEW = 5
"""Samples of a field: with fewer, on average, depths are put into wider bins."""


@dataclass(frozen=True)
class Field:
    """The samples of one length and one range of depths.

    Attributes:
        n: how many were scored.
        mean: of their scores.
        low: lower end of the 95 % interval; None where there is none.
        high: upper end.
    """

    n: int
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DepthGrid:
    """A task by length and depth, as one model answered it.

    Attributes:
        task: without length.
        lengths: ascending.
        is_mean: whether depths are means of several places.
        fields: a row for each range of depths, from the beginning of the context; None where there are no samples.
    """

    task: str
    lengths: tuple[int, ...]
    is_mean: bool
    fields: tuple[tuple[Field | None, ...], ...]


def depth_grids(entrant: Entrant) -> list[DepthGrid]:
    """The grids of a model, a task each; those whose samples say no depths are left out."""
    tasks: dict[str, dict[int, ShownCell]] = {}
    for cell in entrant.shares.values():
        said = cell.candidate.cell.protocol
        if said.length is not None and any(sample.depth is not None for sample in cell.samples):
            tasks.setdefault(said.name, {})[said.length] = cell
    return [_grid(task, dict(sorted(lengths.items()))) for task, lengths in tasks.items()]


def _grid(task: str, cells: dict[int, ShownCell]) -> DepthGrid:
    scored = [
        [
            (sample.depth, score)
            for sample in cell.samples
            if sample.depth is not None and (score := score_of(cell, sample)) is not None
        ]
        for cell in cells.values()
    ]
    bins = BINS if sum(map(len, scored)) >= FEW * BINS * len(scored) else COARSE
    fields = tuple(
        tuple(_field([score for depth, score in pairs if bin_of(depth, bins) == row]) for pairs in scored)
        for row in range(bins)
    )
    is_mean = any(has_mean_depths(task, cell.samples) for cell in cells.values())
    return DepthGrid(task, tuple(cells), is_mean, fields)


def _field(scores: Sequence[float]) -> Field | None:
    if not scores:
        return None
    low, high = mean_interval(scores) or (None, None)
    return Field(len(scores), sum(scores) / len(scores), low, high)
