"""Scores as the rows of pictures, and the spots that a picture may ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from basis.names import listed
from harness.analysis.shown import Model, Number, Spot
from tasks.metrics import Unit
from tasks.perplexity.buckets import METRIC as BUCKET


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A score of a model.

    Attributes:
        model: its title.
        task: its name.
        metric: of the score.
        unit: of the score.
        value: in its unit; a share lies between 0 and 1.
        low: lower end of the 95 % interval; None where none is known.
        high: upper end.
        n: documents.
        source: the run's id, or the paper; of a mean over seeds those of all its runs.
        num_seeds: how many a mean over seeds is of; None for a number of one run.
    """

    model: str
    task: str
    metric: str
    unit: Unit
    value: float
    low: float | None
    high: float | None
    n: int
    source: str
    num_seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class LengthRow(ScoreRow):
    """A score at a length.

    Attributes:
        length: tokens.
        published: whether a paper printed it; then the interval is the binomial one of `n` samples, as many as the
            suite asks for.
    """

    length: int
    published: bool = False


@dataclass(frozen=True, kw_only=True)
class StateRow(ScoreRow):
    """A score at a length beside the state that it took.

    Attributes:
        length: tokens.
        state_bytes: of one row's state after that many tokens.
        bytes_a_token: what the state grows by with each token; 0 for a state of constant size.
    """

    length: int
    state_bytes: int
    bytes_a_token: int


@dataclass(frozen=True, kw_only=True)
class PositionRow(ScoreRow):
    """Bits per byte of the text in a bucket of positions.

    Attributes:
        length: tokens of a document.
        begin: tokens before the bucket.
        end: tokens to its end.
    """

    length: int
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class StepRow(ScoreRow):
    """A score of a checkpoint on the way of a training.

    Attributes:
        training: the name that its checkpoints share.
        step: of training.
        length: tokens; None for a task without a length.
    """

    training: str
    step: int
    length: int | None


def reasons(notes: Sequence[str]) -> str:
    """What was found in the way of a picture, for the end of a message."""
    return f" ({notes[0]})" if notes else ""


def said_of(number: Number) -> dict[str, Any]:
    """What the rows of all pictures say of a number, by field."""
    score = number.score
    return {
        "model": number.model.title,
        "task": number.spot.column.task,
        "metric": number.spot.column.metric,
        "unit": score.unit,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "source": number.run.record.run_id,
    }


def with_length(spots: Sequence[Spot], buckets: bool = False) -> list[Spot]:
    """The spots of tasks with a length; buckets of positions only where they are asked for."""
    found = [spot for spot in spots if spot.column.length is not None]
    return found if buckets else [spot for spot in found if not BUCKET.matches(spot.column.metric)]


def titles(models: Sequence[Model]) -> str:
    """The names of models, for a message."""
    return listed([model.title for model in models], 4)
