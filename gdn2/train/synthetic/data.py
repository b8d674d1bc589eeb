"""The rows of a run on its device, and which of them each step takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gdn2.train.synthetic.rows import Rows
from gdn2.train.synthetic.spec import Run, Task


@dataclass(frozen=True)
class RowBatch:
    """Rows of one kind on a device; tokens [B, T], places and answers [B, Q], all int64."""

    tokens: Tensor
    places: Tensor
    answers: Tensor

    @staticmethod
    def of(rows: Rows, device: torch.device) -> RowBatch:
        """Bring rows to a device."""
        return RowBatch(*(torch.from_numpy(part).to(device) for part in (rows.tokens, rows.places, rows.answers)))

    def take(self, chosen: Tensor) -> RowBatch:
        """Some of the rows."""
        return RowBatch(*(part.index_select(0, chosen) for part in (self.tokens, self.places, self.answers)))

    def part(self, rows: slice) -> RowBatch:
        """Neighbouring rows."""
        return RowBatch(self.tokens[rows], self.places[rows], self.answers[rows])

    def copy_rows(self, source: RowBatch, chosen: Tensor) -> None:
        """Overwrite these rows by chosen ones of another batch."""
        for own, other in (
            (self.tokens, source.tokens),
            (self.places, source.places),
            (self.answers, source.answers),
        ):
            torch.index_select(other, 0, chosen, out=own)

    def __len__(self) -> int:
        return len(self.tokens)


class DrawnRows:
    """Rows on a device, drawn once for all runs that have the same kinds.

    Args:
        device: where they come to lie.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._made: dict[str, tuple[object, list[RowBatch]]] = {}

    def of(self, tasks: Sequence[Task], role: str, rows: int | None = None) -> list[RowBatch]:
        """The rows of kinds for a role, as `draw` gives them; those of the role's last kinds are let go."""
        kinds = (tuple(tasks), rows)
        if role not in self._made or self._made[role][0] != kinds:
            self._made.pop(role, None)
            drawn = [RowBatch.of(draw(task, role, i, rows), self.device) for i, task in enumerate(tasks)]
            self._made[role] = (kinds, drawn)
        return self._made[role][1]


def draw(task: Task, role: str, index: int, rows: int | None = None) -> Rows:
    """The rows of a kind: the same for every run, others for training, validation and tests.

    Args:
        task: the kind.
        role: what they are for.
        index: the kind's place in its list, so that two equal kinds differ.
        rows: how many; as many as the kind says by default.
    """
    seed = hashlib.sha256(f"{role}|{index}|{task!r}".encode()).digest()
    return task.draw(np.random.default_rng(np.frombuffer(seed, dtype=np.uint32)), rows)


def batches(run: Run, sizes: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Without end: a kind and the rows that the next step takes of it.

    Each pass goes through every row of every kind once, but for what is left over of a whole batch, in an order that
    the run's seed and the pass decide.

    Args:
        run: its seed and the size of its batches.
        sizes: rows of each kind, each at least a batch.
    """
    epoch, rows = 0, run.training.batch_rows
    while True:
        rng = np.random.default_rng([run.seed, epoch])
        shuffled = [rng.permutation(size) for size in sizes]
        plan = [(kind, start) for kind, size in enumerate(sizes) for start in range(0, size - rows + 1, rows)]
        for place in rng.permutation(len(plan)):
            kind, start = plan[place]
            yield kind, shuffled[kind][start : start + rows]
        epoch += 1
