"""How answers end, by length: the shares of the verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import reasons, titles
from harness.analysis.shown import Model, Spot, sampled_number_of
from harness.errors import UserError
from tasks.verdicts import VERDICTS


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """The samples of a task at a length that have one verdict.

    Attributes:
        model: its title.
        task: its name.
        length: tokens; None for a task without a length.
        verdict: one of `tasks.verdicts.VERDICTS`.
        count: samples that have it.
        n: samples that were judged.
        source: the run's id.
    """

    model: str
    task: str
    length: int | None
    verdict: str
    count: int
    n: int
    source: str


def by_verdict(models: Sequence[Model], spots: Sequence[Spot]) -> PictureData[VerdictRow]:
    """The verdicts on the answers of each model, by task and length.

    Raises:
        UserError: no run has samples with verdicts that can be read.
    """
    asked = {(spot.column.task, spot.column.length): spot for spot in reversed(spots)}
    rows: list[VerdictRow] = []
    notes: list[str] = []
    for model in models:
        for (task, length), spot in reversed(asked.items()):
            if (number := sampled_number_of(model, spot, notes)) is None:
                continue
            samples = number.run.samples.get(number.cell.lm_eval_name, [])
            counts = Counter(sample.verdict for sample in samples if sample.verdict is not None)
            rows += [
                VerdictRow(
                    model=model.title,
                    task=task,
                    length=length,
                    verdict=verdict,
                    count=counts[verdict],
                    n=counts.total(),
                    source=number.run.record.run_id,
                )
                for verdict in VERDICTS
                if counts[verdict]
            ]
    if not rows:
        raise UserError(
            f"{titles(models)}: no run has samples with verdicts beside its record; run a task with generated answers "
            f"again: --tasks niah_single_1@1024{reasons(notes)}"
        )
    return PictureData("failures", tuple(rows), tuple(dict.fromkeys(notes)))
