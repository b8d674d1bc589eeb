"""Which binaries there are to compile, each of them once, and their compilation in several processes."""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import partial

from basis import children
from gdn2.ops.triton.aot.binaries import FLAGS, Compiled, KernelSource, compile_source
from gdn2.ops.triton.layout import padded_key_dim, padded_value_dim
from gdn2.ops.triton.tiles import allowed_spill, tiles_for
from gdn2.ops.triton.variants import (
    KEY_GRADIENTS,
    KEY_GRADIENTS_BY_LEVEL,
    PREPARE,
    PREPARE_BY_LEVEL,
    RECURRENT,
    SCAN_OUTPUT_WIDE,
    SCAN_WRITES,
    Variant,
)

ARCHITECTURES = (80, 90, 100)
HEAD_SIZES = ((32, 32), (64, 64), (128, 128), (256, 256), (64, 128), (128, 64), (128, 256), (256, 128))  # d_k, d_v
QUICK = {
    80: (PREPARE_BY_LEVEL, KEY_GRADIENTS_BY_LEVEL),
    90: (PREPARE, SCAN_WRITES, KEY_GRADIENTS),
    100: (SCAN_OUTPUT_WIDE, RECURRENT),
}  # what `--quick` and the tests of every change compile


@dataclass
class Job:
    """A source to compile.

    Attributes:
        source: what to compile.
        default: whether its tile is the default for one of the sizes.
        sizes: the head sizes (d_k, d_v) that share its binary.
    """

    source: KernelSource
    default: bool
    sizes: list[tuple[int, int]]


@dataclass
class Row:
    """A job and its binary."""

    job: Job
    binary: Compiled

    @property
    def allowed(self) -> int:
        """Bytes that the binary may spill if its tile is a default."""
        source = self.job.source
        return max(allowed_spill(source.variant, K, source.precision, source.arch) for K, _ in self.job.sizes)


def jobs_for(
    archs: Iterable[int], sizes: Iterable[tuple[int, int]], precisions: Iterable[str], variants: Iterable[Variant],
    *, candidates: bool = False, all_flags: bool = False,
) -> list[Job]:  # fmt: skip
    """Every different binary, once.

    Args:
        archs: architectures, as compute capability x 10.
        sizes: head sizes (d_k, d_v).
        precisions: of matrix products.
        variants: of the kernels.
        candidates: all tiles that tuning considers, instead of the defaults only.
        all_flags: for the default tiles every kind of call: with and without an initial state, an adjoint of the last
            state, and packed sequences.
    """
    jobs: dict[object, Job] = {}
    for arch, precision, (K, V), variant in itertools.product(archs, precisions, sizes, variants):
        tiles = tiles_for(variant, padded_key_dim(K), padded_value_dim(V), precision, arch)
        for i, tile in enumerate(tiles if candidates else tiles[:1]):
            source = KernelSource(variant, arch, K, V, precision, tuple(tile.items()))
            if not source.form.uses(variant):
                break
            for kind in _kinds_of_call(source) if all_flags and i == 0 else (source,):
                job = jobs.setdefault(kind.key, Job(kind, False, []))
                job.default |= i == 0
                job.sizes.append((K, V))
    return list(jobs.values())


def _kinds_of_call(source: KernelSource) -> Iterator[KernelSource]:
    names = FLAGS.get(source.variant, ())
    for chosen in itertools.product((True, False), repeat=len(names)):
        yield replace(source, flags=tuple(itertools.compress(names, chosen)))


def compile_jobs(jobs: list[Job], workers: int) -> Iterator[Row]:
    """Compile in `workers` processes; yields rows in the order in which they are finished.

    A line on stderr says now and then how far it is.
    """
    started, said = time.monotonic(), time.monotonic()
    for done, row in enumerate(_run(jobs, workers), start=1):
        yield row
        if time.monotonic() - said > 10 or (done == len(jobs) and said > started):
            said = time.monotonic()
            left = (said - started) / done * (len(jobs) - done) / 60
            print(f"{done} of {len(jobs)} binaries, about {left:.0f} min left", file=sys.stderr, flush=True)


def _run(jobs: list[Job], workers: int) -> Iterator[Row]:
    if workers <= 1 or len(jobs) == 1:
        yield from (Row(job, compile_source(job.source)) for job in jobs)
        return
    with children.pool(workers, partial(warnings.simplefilter, "ignore")) as pool:
        futures = {pool.submit(compile_source, job.source): job for job in jobs}
        for future in as_completed(futures):
            yield Row(futures[future], future.result())
