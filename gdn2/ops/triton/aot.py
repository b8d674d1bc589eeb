"""Compile every kernel without a GPU and read what the assembler says: `python -m gdn2.ops.triton.aot`.

For each kernel, its default tile (or all candidates) and each architecture: registers a thread, bytes spilled to local
memory, shared memory, and the matrix instructions of the binary. `--all` does so for every kernel and tile that can
ship: all head sizes, precisions and candidates, states and packed sequences given or not. Exits with 1 if a binary
needs more shared memory than its chip has, reads a register that nothing wrote, or if a default tile spills more than
tiles.py says.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import triton

from gdn2.ops.triton.binaries import FLAGS, Compiled, Source, compile_source
from gdn2.ops.triton.layer_binaries import SIZES, LayerSource, compile_layer_source
from gdn2.ops.triton.layout import padded_key_dim, padded_value_dim
from gdn2.ops.triton.plan import KERNELS
from gdn2.ops.triton.tiles import CHUNK_SIZE, allowed_spill, tiles_for

ARCHITECTURES = (80, 90, 100)
HEAD_SIZES = ((32, 32), (64, 64), (128, 128), (256, 256), (64, 128), (128, 64), (128, 256), (256, 128))  # d_k, d_v
DTYPES = {"bf16": "bfloat16", "tf32": "float16", "tf32x3": "float32"}
QUICK = {
    80: ("prepare_by_level", "key_gradients_by_level"),
    90: ("prepare", "scan_output", "key_gradients"),
    100: ("scan_output_wide", "recurrent"),
}  # what `--quick` and the tests of every change compile


@dataclass
class Job:
    """A source to compile, whether it is a default choice, and the head sizes (d_k, d_v) that share its binary."""

    source: Source
    default: bool
    sizes: list[tuple[int, int]]


@dataclass
class Row:
    """What became of a job."""

    job: Job
    binary: Compiled

    @property
    def allowed(self) -> int:
        source = self.job.source
        return max(allowed_spill(source.kernel, K, source.precision, source.arch) for K, _ in self.job.sizes)


def jobs_for(
    archs: Iterable[int], sizes: Iterable[tuple[int, int]], precisions: Iterable[str], kernels: Iterable[str],
    *, candidates: bool = False, variants: bool = False,
) -> list[Job]:  # fmt: skip
    """Every different binary, once: the default tiles or all candidates; `variants`: also without a state before or
    an adjoint behind, and with packed sequences, for the default tiles."""
    jobs: dict[object, Job] = {}
    for arch, precision, (K, V), kernel in itertools.product(archs, precisions, sizes, kernels):
        tiles = tiles_for(kernel, padded_key_dim(K), padded_value_dim(V), precision, arch)
        for i, tile in enumerate(tiles if candidates else tiles[:1]):
            source = Source(kernel, arch, K, V, precision, tuple(tile.items()))
            for variant in _variants(source) if variants and i == 0 else (source,):
                job = jobs.setdefault(variant.key, Job(variant, False, []))
                job.default |= i == 0
                job.sizes.append((K, V))
    return list(jobs.values())


def _variants(source: Source) -> Iterator[Source]:
    names = FLAGS.get(source.kernel, ())
    for chosen in itertools.product((True, False), repeat=len(names)):
        yield replace(source, flags=tuple(itertools.compress(names, chosen)))


def compile_jobs(jobs: list[Job], workers: int) -> Iterator[Row]:
    """The rows as they are finished, with a line of progress on stderr now and then."""
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
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=warnings.simplefilter, initargs=("ignore",)) as pool:
        futures = {pool.submit(compile_source, job.source): job for job in jobs}
        for future in as_completed(futures):
            yield Row(futures[future], future.result())


def line(row: Row) -> str:
    """A row of the table for one head size."""
    binary = row.binary
    return (
        f"| {binary.kernel} | {_tile(row)} | {binary.arch} | {binary.registers} | {binary.spilled_bytes} | "
        f"{binary.shared_bytes / 1024:.0f} | {binary.matrix} ({binary.wgmma}) |"
    )


def _tile(row: Row) -> str:
    return " ".join(f"{key.removeprefix('num_')} {value}" for key, value in row.binary.tile.items())


def summary(rows: list[Row]) -> str:
    """Counts by architecture and dtype, and the default tiles that spill, as Markdown."""
    lines = [
        "| sm | inputs | default tiles | that spill | other candidates | that spill | beyond shared memory |",
        "|---|---|---|---|---|---|---|",
    ]
    kinds = sorted({(row.binary.arch, row.job.source.precision) for row in rows})
    for arch, precision in kinds:
        group = [row for row in rows if (row.binary.arch, row.job.source.precision) == (arch, precision)]
        counts = []
        for default in (True, False):
            part = [row for row in group if row.job.default is default]
            counts += [len(part), sum(row.binary.spilled_bytes > 0 for row in part)]
        too_large = sum(not row.binary.fits for row in group)
        lines.append(f"| {arch} | {DTYPES[precision]} | {' | '.join(map(str, counts))} | {too_large} |")
    spills = sorted(
        (row.binary.kernel, row.job.source.precision, row.binary.arch, row.job.sizes, row.binary.spilled_bytes,
         row.binary.registers, _tile(row)) for row in rows if row.job.default and row.binary.spilled_bytes
    )  # fmt: skip
    if spills:
        lines += ["", "| kernel | inputs | sm | d_k x d_v | tile | spilled bytes |", "|---|---|---|---|---|---|"]
    for kernel, precision, arch, sizes, spilled, _, tile in spills:
        names = ", ".join(f"{K} x {V}" for K, V in sizes)
        lines.append(f"| {kernel} | {DTYPES[precision]} | {arch} | {names} | {tile} | {spilled} |")
    return "\n".join(lines)


def faults(rows: list[Row]) -> list[str]:
    """What must not ship."""
    found: list[str] = []
    for row in rows:
        binary, source = row.binary, row.job.source
        name = f"{binary.kernel}, {DTYPES[source.precision]}, {row.job.sizes}, {_tile(row)} on sm_{binary.arch}"
        if not binary.fits:
            found.append(f"{name} needs {binary.shared_bytes} bytes of shared memory, more than the chip has")
        if binary.unwritten:
            found.append(
                f"{name} reads registers that nothing wrote, {', '.join(binary.unwritten[:4])}: docs/kernels.md"
            )
        if binary.narrow:
            found.append(f"{name} adds 32-bit offsets to {', '.join(binary.narrow)}: wrong beyond 2^31 elements")
        if row.job.default and binary.spilled_bytes > row.allowed:
            found.append(f"{name} spills {binary.spilled_bytes} bytes; SPILLS in tiles.py has {row.allowed}")
    return found


def layers(archs: Iterable[int], precisions: Iterable[str]) -> None:
    """Print the table of the kernels of a layer's small steps; exits with 1 if one spills."""
    print("| kernel | inputs | sm | registers | spilled bytes | shared bytes |\n|---|---|---|---|---|---|")
    wrong = []
    for name, precision, arch in itertools.product(SIZES, precisions, archs):
        binary = compile_layer_source(LayerSource(name, arch, precision))
        cells = (name, DTYPES[precision], arch, binary.registers, binary.spilled_bytes, binary.shared_bytes)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        wrong += [f"{name} on sm_{arch} spills"] if binary.spilled_bytes else []
    if wrong:
        sys.exit("\n".join(wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, nargs="+", default=list(ARCHITECTURES), help="compute capability x 10")
    parser.add_argument("--all", action="store_true", help="every head size, precision, candidate and kind of call")
    parser.add_argument("--defaults", action="store_true", help="of --all: the default tiles, with states given")
    parser.add_argument("--quick", action="store_true", help="a few kernels of each architecture only")
    parser.add_argument("--layers", action="store_true", help="the small steps of a layer instead of the operator")
    parser.add_argument("--key-dim", type=int, default=128)
    parser.add_argument("--value-dim", type=int, default=128)
    parser.add_argument("--precision", choices=list(CHUNK_SIZE), nargs="+", help="bf16, or with --all each of them")
    parser.add_argument("--candidates", action="store_true", help="every tile that tuning considers, not the default")
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=list(KERNELS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    warnings.simplefilter("ignore")  # of Triton, on its own defaults
    if arguments.layers:
        layers(arguments.arch, arguments.precision or ["bf16"])
        return
    everything = arguments.all
    jobs = jobs_for(
        arguments.arch,
        HEAD_SIZES if everything else [(arguments.key_dim, arguments.value_dim)],
        arguments.precision or (list(CHUNK_SIZE) if everything else ["bf16"]),
        arguments.kernels,
        candidates=arguments.candidates or (everything and not arguments.defaults),
        variants=everything and not arguments.defaults,
    )
    if arguments.quick:
        jobs = [job for job in jobs if job.source.kernel in QUICK[job.source.arch]]
    jobs.sort(key=lambda job: list(KERNELS).index(job.source.kernel))
    print(f"{len(jobs)} binaries, Triton {triton.__version__}", file=sys.stderr, flush=True)
    rows = list(compile_jobs(jobs, arguments.jobs))
    order = {id(job): i for i, job in enumerate(jobs)}
    rows.sort(key=lambda row: order[id(row.job)])
    if everything:
        print(summary(rows))
    else:
        print("| kernel | tile | sm | registers | spilled bytes | shared kB | matrix instructions (wgmma) |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(line(row) for row in rows))
    if arguments.json:
        table = [
            {"precision": row.job.source.precision, "sizes": row.job.sizes, "default": row.job.default,
             "flags": row.job.source.flags} | asdict(row.binary) for row in rows
        ]  # fmt: skip
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    found = faults(rows)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
