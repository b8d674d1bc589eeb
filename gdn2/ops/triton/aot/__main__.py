"""Compile every kernel without a GPU and read what the assembler says: `python -m gdn2.ops.triton.aot`.

For each variant, its default tile (or all candidates) and each architecture: registers a thread, bytes spilled to local
memory, shared memory, and the matrix instructions of the binary. `--all` does so for every variant and tile that can
ship: all head sizes, precisions and candidates, states and packed sequences given or not. Exits with 1 if a binary
needs more shared memory than its chip has, reads a register that nothing wrote, or if a default tile spills more than
tiles.py says.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import triton

from basis.arguments import Parser, mistakes_end
from gdn2.ops.triton.aot.bands import QUICK as BANDS
from gdn2.ops.triton.aot.bands import BandSource, band_faults, band_sources, compile_band
from gdn2.ops.triton.aot.jobs import ARCHITECTURES, HEAD_SIZES, QUICK, Job, Row, compile_jobs, jobs_for
from gdn2.ops.triton.aot.layers import SIZES, LayerSource, compile_layer_source
from gdn2.ops.triton.aot.report import DTYPES, faults, line, summary
from gdn2.ops.triton.tiles import CHUNK_SIZE
from gdn2.ops.triton.variants import VARIANTS


def main() -> None:
    """Compile what the command line asks for and print the table; exits with 1 if something must not ship."""
    arguments = _arguments()
    warnings.simplefilter("ignore")  # Triton warns of its own defaults
    if arguments.layers:
        _print_layers(arguments.arch, arguments.precision or ["bf16"])
        return
    if arguments.bands:
        precisions = arguments.precision or ["bf16"]
        sources = band_sources(arguments.arch, precisions, arguments.key_dim, every_tile=arguments.candidates)
        _print_bands(source for source in sources if not arguments.quick or (source.kernel, source.call) in BANDS)
        return
    jobs = _jobs(arguments)
    print(f"{len(jobs)} binaries, Triton {triton.__version__}", file=sys.stderr, flush=True)
    rows = list(compile_jobs(jobs, arguments.jobs))
    order = {id(job): i for i, job in enumerate(jobs)}
    rows.sort(key=lambda row: order[id(row.job)])
    if arguments.all:
        print(summary(rows))
    else:
        print("| kernel | tile | sm | registers | spilled bytes | shared kB | matrix instructions (wgmma) |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(line(row.binary) for row in rows))
    if arguments.json:
        table = list(map(_as_dict, rows))
        arguments.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    found = faults(rows)
    if found:
        sys.exit("\n".join(found))


def _arguments() -> argparse.Namespace:
    parser = Parser(
        prog="python -m gdn2.ops.triton.aot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--arch", type=int, nargs="+", default=list(ARCHITECTURES), help="compute capability x 10")
    parser.add_argument("--all", action="store_true", help="every head size, precision, candidate and kind of call")
    parser.add_argument("--defaults", action="store_true", help="of --all: the default tiles, with states given")
    parser.add_argument("--quick", action="store_true", help="a few kernels of each architecture only")
    parser.add_argument("--layers", action="store_true", help="the small steps of a layer instead of the operator")
    parser.add_argument("--bands", action="store_true", help="attention over runs of tokens, heads of --key-dim")
    parser.add_argument("--key-dim", type=int, default=128)
    parser.add_argument("--value-dim", type=int, default=128)
    parser.add_argument("--precision", choices=list(CHUNK_SIZE), nargs="+", help="bf16, or with --all each of them")
    parser.add_argument("--candidates", action="store_true", help="every tile that tuning considers, not the default")
    parser.add_argument("--kernels", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), help="variants by name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    with mistakes_end():
        return parser.parse_args()


def _jobs(arguments: argparse.Namespace) -> list[Job]:
    everything = arguments.all
    jobs = jobs_for(
        arguments.arch,
        HEAD_SIZES if everything else [(arguments.key_dim, arguments.value_dim)],
        arguments.precision or (list(CHUNK_SIZE) if everything else ["bf16"]),
        [VARIANTS[name] for name in arguments.kernels],
        candidates=arguments.candidates or (everything and not arguments.defaults),
        all_flags=everything and not arguments.defaults,
    )
    if arguments.quick:
        jobs = [job for job in jobs if job.source.variant in QUICK[job.source.arch]]
    return sorted(jobs, key=lambda job: list(VARIANTS).index(job.source.variant.name))


def _as_dict(row: Row) -> dict[str, Any]:
    source = row.job.source
    of_job = {"precision": source.precision, "sizes": row.job.sizes, "default": row.job.default, "flags": source.flags}
    return of_job | asdict(row.binary)


def _print_layers(archs: Iterable[int], precisions: Iterable[str]) -> None:
    """Print the table of the kernels of a layer's small steps; exits with 1 if one is faulty."""
    print("| kernel | inputs | sm | registers | spilled bytes | shared bytes |\n|---|---|---|---|---|---|")
    wrong = []
    for name, precision, arch in itertools.product(SIZES, precisions, archs):
        binary = compile_layer_source(LayerSource(name, arch, precision))
        cells = (name, DTYPES[precision], arch, binary.registers, binary.spilled_bytes, binary.shared_bytes)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        faults = {"spills": binary.spilled_bytes, "is too large": not binary.fits}
        wrong += [f"{name} on sm_{arch} {fault}" for fault, found in faults.items() if found]
    if wrong:
        sys.exit("\n".join(wrong))


def _print_bands(sources: Iterable[BandSource]) -> None:
    """Print the table of attention over runs of tokens; exits with 1 if a binary is faulty."""
    print("| kernel | tile | sm | registers | spilled bytes | shared kB | matrix instructions (wgmma) |")
    print("|---|---|---|---|---|---|---|")
    wrong = []
    for source in sources:
        binary = compile_band(source)
        print(line(binary), flush=True)
        wrong += band_faults(source, binary)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
