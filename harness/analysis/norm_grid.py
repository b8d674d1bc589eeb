"""How large states grow: the largest norm of each layer by position, as the records have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import titles
from harness.analysis.shown import Model
from harness.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NormRow:
    """The largest norm of a head's state in a layer, over all texts of the runs of a model.

    Attributes:
        model: its title.
        layer: from 0.
        position: a power of two, the next from the tokens that had been read.
        norm: Frobenius norm.
        source: the run's id.
    """

    model: str
    layer: int
    position: int
    norm: float
    source: str


def by_layer(models: Sequence[Model]) -> PictureData[NormRow]:
    """The norms of each model's states.

    Raises:
        UserError: no record has norms by layer: none of the models has a state of this kind, or all are older.
    """
    rows: list[NormRow] = []
    notes: list[str] = []
    for model in models:
        largest: dict[tuple[int, int], NormRow] = {}
        for run in model.runs:
            if (said := run.record.model.state_norms) is None:
                continue
            for layer, norms in zip(said.layers, said.norms, strict=False):
                for position, norm in zip(said.positions, norms, strict=False):
                    row = largest.get((layer, position))
                    if norm is not None and (row is None or norm > row.norm):
                        source = run.record.run_id
                        largest[layer, position] = NormRow(
                            model=model.title, layer=layer, position=position, norm=norm, source=source
                        )
        if not largest:
            notes.append(f"{model.title}: its records have no norms by layer")
        rows += [largest[key] for key in sorted(largest)]
    if not rows:
        raise UserError(
            f"{titles(models)}: no record has norms of states by layer (model.state_norms); attention has none, and "
            "records from before they were kept lack them: run it again"
        )
    return PictureData("norms", tuple(rows), tuple(notes))
