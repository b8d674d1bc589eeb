"""Batches drawn by processes of their own, for a GPU that would wait for one thread of Python beside its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

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
    ends, running = [], []
    for number in range(processes):
        end, far_end = context.Pipe(duplex=False)
        own = steps[number::processes]
        arguments = (batches.recipe, batches.corpus, batches.tokenizer, own, far_end)
        running.append(context.Process(target=_draw, args=arguments, daemon=True))
        running[-1].start()
        far_end.close()
        ends.append(end)

    def take(step: int) -> Batch:
        try:
            found = ends[(step - steps.start) % processes].recv()
        except EOFError as error:
            raise batches.recipe.error(
                "compute.drawing_processes: one of them has ended, as the system does where memory is short; the same "
                "command goes on from the last save"
            ) from error
        if isinstance(found, BaseException):
            raise found
        return Batch.of(*found)

    try:
        yield take
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _draw(recipe: Recipe, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, steps: range, end: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the training that is interrupted, and ends this
    batches = BatchMaker(recipe, corpus, tokenizer)
    with contextlib.suppress(BrokenPipeError):
        try:
            for step in steps:
                end.send(batches.rows(step))
        except BrokenPipeError:
            raise
        except Exception as error:
            end.send(error)
