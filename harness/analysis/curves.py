"""What scores say over an axis: length, the state's size, positions in a text, steps of training."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.picture_data import PictureData
from harness.analysis.printed import printed_rows
from harness.analysis.score_rows import LengthRow, PositionRow, StateRow, StepRow, said_of, titles, with_length
from harness.analysis.shown import Model, Number, Spot, number_of, numbers_of, trained_lengths
from harness.errors import UserError
from harness.records.steps import step_of
from tasks.perplexity.buckets import FIRST, bucket_ends, metric_of
from tasks.perplexity.buckets import METRIC as BUCKET


def over_length(
    models: Sequence[Model], spots: Sequence[Spot], published: Sequence[str] = (), threshold: float | None = None
) -> PictureData[LengthRow]:
    """Scores over length.

    Args:
        models: ours.
        spots: where numbers are looked for.
        published: names of papers' rows, or patterns of them, that are shown beside ours.
        threshold: a score in percent at which a line is drawn.

    Raises:
        UserError: no number at any length, or a name of no published row.
    """
    spots = with_length(spots)
    rows = [_length_row(number) for number in numbers_of(models, spots)]
    if not rows:
        raise UserError(f"{titles(models)}: no task with a length was run; run one: --tasks niah_single_1@1024")
    notes = []
    lengths = {row.task: {other.length for other in rows if other.task == row.task} for row in rows}
    if single := [task for task, found in lengths.items() if len(found) == 1 < max(map(len, lengths.values()))]:
        rows = [row for row in rows if row.task not in single]
        notes.append(f"left out, run at one length only: {', '.join(single)}; name one with --tasks to see it")
    shown = {(row.task, row.length, row.metric) for row in rows}
    printed = list(printed_rows([spot for spot in spots if spot.key in shown], published))
    if sizes := sorted({row.n for row in printed if row.low is not None}):
        said = ", ".join(map(str, sizes))
        notes.append(f"published rows have binomial intervals of {said} samples, a number that their papers do not say")
    return PictureData("length", (*rows, *printed), tuple(notes), trained_lengths(models), threshold)


def beside_state(models: Sequence[Model], spots: Sequence[Spot], length: int | None) -> PictureData[StateRow]:
    """Scores at one length beside the bytes of the state.

    Args:
        models: ours.
        spots: where numbers are looked for.
        length: in tokens; None: the longest that the most models have.

    Raises:
        UserError: no number at this length.
    """
    numbers = [number for number in numbers_of(models, with_length(spots)) if _state_bytes(number) is not None]
    having: dict[int, set[str]] = {}
    for number in numbers:
        having.setdefault(number.spot.column.length or 0, set()).add(number.model.title)
    if length is None and having:
        length = max(having, key=lambda one: (len(having[one]), one))
    rows = [
        StateRow(
            **said_of(number),
            length=length,
            state_bytes=_state_bytes(number, length) or 0,
            bytes_a_token=number.run.record.model.state_bytes_a_token or 0,
        )
        for number in numbers
        if length is not None and number.spot.column.length == length
    ]
    if length is None or not rows:
        known = ", ".join(map(str, sorted(having))) or "none"
        raise UserError(
            f"{titles(models)}: no score at --length {length or 'any'} of a model whose state is known; "
            f"there are scores at {known}"
        )
    growing = list(dict.fromkeys(row.model for row in rows if row.bytes_a_token))
    notes = [f"{name}: its state grows with every token; shown is that of {length:,} tokens" for name in growing]
    missing = [model.title for model in models if model.title not in having.get(length, ())]
    notes += [f"{name}: not run at {length:,} tokens, or its record does not say its state" for name in missing]
    return PictureData("state", tuple(rows), tuple(notes), trained_lengths(models))


def _state_bytes(number: Number, length: int = 0) -> int | None:
    """Of one row after so many tokens; None where the record does not say it."""
    info = number.run.record.model
    if info.state_bytes is None or info.state_bytes_a_token is None:
        return None
    return info.state_bytes + info.state_bytes_a_token * length


def by_position(models: Sequence[Model], spots: Sequence[Spot]) -> PictureData[PositionRow]:
    """Bits per byte by position in long documents.

    Raises:
        UserError: no run has a task by position.
    """
    cells = [cell for model in models for run in model.runs for cell in run.record.cells]
    having = {(cell.protocol.name, cell.protocol.length) for cell in cells if any(map(BUCKET.matches, cell.scores))}
    found: dict[tuple[str, int], Spot] = {}
    for spot in with_length(spots, buckets=True):
        if (spot.column.task, spot.column.length) in having:
            found.setdefault((spot.column.task, spot.column.length or 0), spot)
    rows = []
    for model in models:
        for (_, length), spot in found.items():
            begin = 0
            for end in bucket_ends(length) if length >= FIRST else ():
                if (number := number_of(model, spot.by(metric_of(end)))) is not None:
                    rows.append(PositionRow(**said_of(number), length=length, begin=begin, end=end))
                begin = end
    if not rows:
        raise UserError(
            f"{titles(models)}: no run has bits per byte by position; run a task of positions: --tasks "
            "wiki_positions@8192, or --suite perplexity"
        )
    return PictureData("position", tuple(rows), (), trained_lengths(models))


def over_steps(models: Sequence[Model], spots: Sequence[Spot]) -> PictureData[StepRow]:
    """Scores over the steps of training.

    Raises:
        UserError: no model is called `NAME@STEP`.
    """
    spots = [spot for spot in spots if not BUCKET.matches(spot.column.metric)]
    rows = []
    for model in models:
        if (found := step_of(model.title)) is None:
            continue
        training, step = found[0], round(found[1])
        rows += [
            StepRow(**said_of(number), training=training, step=step, length=number.spot.column.length)
            for number in numbers_of([model], spots)
        ]
    if not rows:
        raise UserError(
            f"{titles(models)}: no checkpoint of a training has scores; checkpoints of one training are called "
            "NAME@STEP, such as gdn2-small@2000"
        )
    left = [model.title for model in models if step_of(model.title) is None]
    notes = [f"left out, not called NAME@STEP: {', '.join(left)}"] if left else []
    order = {training: number for number, training in enumerate(dict.fromkeys(row.training for row in rows))}
    rows.sort(key=lambda row: (order[row.training], row.step))
    return PictureData("trajectory", tuple(rows), tuple(notes))


def _length_row(number: Number) -> LengthRow:
    return LengthRow(**said_of(number), length=number.spot.column.length or 0)
