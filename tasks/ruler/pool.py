"""A cell's samples from the store, or made, by several processes where that pays: samples do not depend on how many.

`exact` makes any sample alone, so a cell is shared out; the other generators draw one sample after the other, so cells
are. A new process costs seconds (it imports transformers): small work stays in this one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from basis import children
from tasks.errors import TaskError
from tasks.ruler import store
from tasks.ruler.exact import Generator
from tasks.ruler.spec import RulerSpec
from tasks.text.haystack import NOISE
from tasks.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    from tasks.ruler.official.generator import OfficialGenerator

PAYS = {"exact": 1 << 26, "nvidia": 1 << 24, "nvidia-26.3": 1 << 24, "lm-eval": 1 << 24}
"""Tokens from which on several processes are faster than one: some 20 s of one core (2026-11)."""
MAX_PROCESSES = 16


def cell(
    spec: RulerSpec, tokenizer: Any, *, context_prefix: str, count: int, processes: int | None = None
) -> list[dict[str, Any]]:
    """The documents of the first `count` samples, stored for the next time.

    Args:
        spec: task, length, seed and generator.
        tokenizer: a Hugging Face tokenizer.
        context_prefix: which tokens come before the prompt.
        count: how many samples.
        processes: how many share the work; by default as many as there are cores, and one for small work.
    """
    found = store.load_samples(spec, tokenizer, context_prefix, count)
    if found is None:
        workers = _workers(processes, count * spec.length, spec.generator)
        if spec.generator == "exact" and workers > 1:
            found = _shared_out(spec, tokenizer, context_prefix, count, workers)
        else:
            found = generator_of(spec, tokenizer, context_prefix=context_prefix).samples(count)
        store.save_samples(spec, tokenizer, context_prefix, count, found)
    return found


def prepare(
    specs: Sequence[Mapping[str, Any]], tokenizer: str, *, context_prefix: str, processes: int | None = None
) -> None:
    """Make and store the samples of all cells of official generators, several cells at a time, where that pays.

    Args:
        specs: mappings as in a YAML.
        tokenizer: folder or hub name of the tokenizer.
        context_prefix: which tokens come before the prompts.
        processes: how many share the work; by default as many as there are cores, and one for small work.
    """
    parsed = [spec for spec in map(RulerSpec.parse, specs) if spec.generator != "exact"]
    parsed = [spec for spec in parsed if spec.samples * spec.length <= store.MAX_TOKENS]
    tokens = sum(spec.samples * spec.length for spec in parsed)
    workers = min(len(parsed), _workers(processes, tokens, parsed[0].generator)) if parsed else 1
    if workers > 1:
        longest_first = sorted(parsed, key=lambda spec: -spec.length * spec.samples)
        with _pool(workers) as pool:
            list(pool.map(_prepare_cell, *zip(*((s, tokenizer, context_prefix) for s in longest_first), strict=True)))


def generator_of(
    spec: RulerSpec, tokenizer: Any, *, context_prefix: str = "tokenizer"
) -> Generator | OfficialGenerator:
    """What makes the samples of a spec. Raises TaskError for a tokenizer that encodes to nothing."""
    if not tokenizer.encode(NOISE, add_special_tokens=False):
        raise TaskError(f"{spec.task}: the tokenizer encodes text to no tokens at all; give one with a tokenizer.json")
    if spec.generator == "exact":
        return Generator(spec, tokenizer, context_prefix=context_prefix)
    # Imported when needed: numpy, which listing tasks does without.
    from tasks.ruler.official.generator import OfficialGenerator

    return OfficialGenerator(spec, tokenizer, context_prefix=context_prefix)


def _shared_out(spec: RulerSpec, tokenizer: Any, context_prefix: str, count: int, workers: int) -> list[dict[str, Any]]:
    per_task = max(1, count // (4 * workers))
    starts = range(0, count, per_task)
    with _pool(workers) as pool:
        parts = [
            pool.submit(_samples, spec, tokenizer, context_prefix, range(start, min(count, start + per_task)))
            for start in starts
        ]
        return [doc for part in parts for doc in part.result()]


def _samples(spec: RulerSpec, tokenizer: Any, context_prefix: str, indices: range) -> list[dict[str, Any]]:
    generator = Generator(spec, tokenizer, context_prefix=context_prefix)
    return [generator.sample(index) for index in indices]


def _prepare_cell(spec: RulerSpec, tokenizer: str, context_prefix: str) -> None:
    cell(spec, load_tokenizer(tokenizer), context_prefix=context_prefix, count=spec.samples, processes=1)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that draw samples.

    Raises:
        TaskError: one of them was killed.
    """
    try:
        with children.pool(workers) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise TaskError(
            f"one of {workers} processes that draw samples was killed, most likely for lack of memory (a gigabyte "
            "each); give this command fewer cores, as by `taskset -c 0,1`"
        ) from error


def _workers(processes: int | None, tokens: int, generator: str) -> int:
    if processes is not None:
        return processes
    if tokens < PAYS[generator] or multiprocessing.current_process().daemon:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_PROCESSES)
