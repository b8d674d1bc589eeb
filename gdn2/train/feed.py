"""Batches ahead of the steps that need them: drawn by a thread, cut for this process, in memory a GPU can read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor

from gdn2.train.batches import Batch
from gdn2.train.objective import MicroBatch, Term
from gdn2.train.place import Place

AHEAD = 2  # batches that wait


class StepBatch(NamedTuple):
    """What a process does in one step.

    Attributes:
        parts: its rows, in the parts that go through the model one after the other.
        length: tokens of a row.
        tokens: tokens of the whole step, those of other processes too.
        processes: how many there are.
        targets: targets of the whole step, of text and of answers.
    """

    parts: list[MicroBatch]
    length: int
    tokens: int
    processes: int
    targets: tuple[int, int]


class Feed:
    """The batches of some steps in order; a context, which ends the thread.

    What the thread raises is raised by `take` where that batch would have been.

    Args:
        draw: gives the batch of a step.
        steps: the steps.
        place: which rows are cut out, and whether memory is pinned.
        accumulation: parts of a process's rows.
    """

    def __init__(self, draw: Callable[[int], Batch], steps: range, place: Place, accumulation: int = 1) -> None:
        self._draw, self._steps, self._place, self._accumulation = draw, steps, place, accumulation
        self._waiting: queue.Queue[StepBatch | BaseException] = queue.Queue(AHEAD)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._ended.set()
        while self._thread.is_alive():  # one that waits for room gets it
            try:
                self._waiting.get(timeout=0.01)
            except queue.Empty:
                continue

    def take(self) -> StepBatch:
        """The next batch, on the place's device."""
        found = self._waiting.get()
        if isinstance(found, BaseException):
            raise found
        return found._replace(parts=[part.to(self._place.device) for part in found.parts])

    def _run(self) -> None:
        if self._place.is_gpu:
            torch.cuda.set_device(self._place.device)  # a thread has a current device of its own
        try:
            for step in self._steps:
                if self._ended.is_set():
                    return
                batch = cut(self._draw(step), self._place, self._accumulation)
                self._waiting.put(_pinned(batch) if self._place.is_gpu else batch)
        except BaseException as error:
            self._waiting.put(error)


def cut(batch: Batch, place: Place, accumulation: int) -> StepBatch:
    """The rows of a batch that a process reads: every N-th of N processes, so that all have rows of each kind.

    Args:
        batch: of the whole step; its rows are a multiple of the processes times the parts.
        place: which process.
        accumulation: parts.
    """
    rows, length = batch.input_ids.shape
    totals = int(batch.is_text.sum()), int(batch.is_answer.sum())
    own = torch.arange(place.rank, rows, place.processes)
    parts = []
    for some in own.chunk(accumulation):
        targets = batch.targets[some].flatten()
        terms = [
            _term(mask[some].flatten(), targets, total)
            for mask, total in zip((batch.is_text, batch.is_answer), totals, strict=True)
        ]
        parts.append(MicroBatch(batch.input_ids[some], *terms))
    return StepBatch(parts, length, rows * length, place.processes, totals)


def _term(mask: Tensor, targets: Tensor, total: int) -> Term:
    places = mask.nonzero()[:, 0]
    return Term(places, targets[places], total)


def _pinned(batch: StepBatch) -> StepBatch:
    parts = [
        MicroBatch(part.input_ids.pin_memory(), *(_pinned_term(term) for term in (part.text, part.answer)))
        for part in batch.parts
    ]
    return batch._replace(parts=parts)


def _pinned_term(term: Term) -> Term:
    return Term(term.places.pin_memory(), term.targets.pin_memory(), term.total)
