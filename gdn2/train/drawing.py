"""Batches drawn by processes of their own, for a GPU that would wait for one thread of Python beside its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from basis.children import end_with
from basis.errors import reason
from gdn2.train.batches import Batch, BatchMaker
from gdn2.train.corpus import Corpus
from gdn2.train.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@contextlib.contextmanager
def drawing(batches: BatchMaker, steps: range, processes: int) -> Iterator[Callable[[int], Batch]]:
    """What gives the batch of each step, to be asked for in order.

    Of N processes each draws every N-th batch and waits until it is taken. They end with the context, or when nobody is
    left to take one.

    Args:
        batches: draws them.
        steps: those that will be asked for.
        processes: how many; 0: they are drawn where they are asked for.
    """
    if not processes:
        yield batches.batch
        return
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    running: list[BaseProcess] = []

    def take(step: int) -> Batch:
        try:
            found = ends[(step - steps.start) % processes].recv()
        except (EOFError, OSError) as error:  # before a batch, or within one
            raise batches.recipe.error(
                "compute.drawing_processes: one of them has ended, as the system does where memory is short; the same "
                "command goes on from the last save"
            ) from error
        if isinstance(found, BaseException):
            raise found
        return Batch.of(*found)

    try:
        for _ in range(processes):
            end, far_end = context.Pipe()
            process = context.Process(target=_serve, args=(far_end, os.getpid()), daemon=True)
            try:
                process.start()
            except OSError as error:
                raise batches.recipe.error(
                    f"compute.drawing_processes: {processes} cannot be started ({reason(error)}); choose fewer, or 0"
                ) from error
            running.append(process)
            far_end.close()
            ends.append(end)
        for number, end in enumerate(ends):
            with contextlib.suppress(OSError):  # one that has ended is found out by whoever takes its first batch
                end.send((batches.recipe, batches.corpus, batches.tokenizer, steps[number::processes]))
        yield take
    finally:
        for drawer in running:
            drawer.terminate()
        for drawer in running:
            drawer.join()


def _serve(end: Connection, parent: int) -> None:
    """Draw what comes through the pipe, for a training that is this process's parent.

    A text of many megabytes is no argument of the process: if that died while it starts, its parent would wait for it
    to read them.
    """
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the training that is interrupted, and ends this
    with contextlib.suppress(EOFError, ConnectionResetError):
        recipe, corpus, tokenizer, steps = end.recv()
        _draw(recipe, corpus, tokenizer, steps, end)


def _draw(recipe: Recipe, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, steps: range, end: Connection) -> None:
    batches = BatchMaker(recipe, corpus, tokenizer)
    with contextlib.suppress(BrokenPipeError):
        try:
            for step in steps:
                end.send(batches.rows(step))
        except BrokenPipeError:
            raise
        except Exception as error:
            end.send(error)
