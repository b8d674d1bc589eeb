"""What a person reads of the compiled kernels: tables in Markdown, and the faults that must not ship."""

from __future__ import annotations

from basis.names import listed
from gdn2.ops.triton.aot.binaries import Compiled
from gdn2.ops.triton.aot.jobs import Row

DTYPES = {"bf16": "bfloat16", "tf32": "float16", "tf32x3": "float32"}  # of the inputs, by precision


def line(binary: Compiled) -> str:
    """A row of the table for one head size, in Markdown."""
    return (
        f"| {binary.kernel} | {_tile(binary)} | {binary.arch} | {binary.registers} | {binary.spilled_bytes} | "
        f"{binary.shared_bytes / 1024:.0f} | {binary.matrix} ({binary.wgmma}) |"
    )


def _tile(binary: Compiled) -> str:
    return " ".join(f"{key.removeprefix('num_')} {value}" for key, value in binary.tile.items())


def summary(rows: list[Row]) -> str:
    """Counts by architecture and dtype, and the default tiles that spill, in Markdown."""
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
         row.binary.registers, _tile(row.binary)) for row in rows if row.job.default and row.binary.spilled_bytes
    )  # fmt: skip
    if spills:
        lines += ["", "| kernel | inputs | sm | d_k x d_v | tile | spilled bytes |", "|---|---|---|---|---|---|"]
    for kernel, precision, arch, sizes, spilled, _, tile in spills:
        names = ", ".join(f"{K} x {V}" for K, V in sizes)
        lines.append(f"| {kernel} | {DTYPES[precision]} | {arch} | {names} | {tile} | {spilled} |")
    return "\n".join(lines)


def faults(rows: list[Row]) -> list[str]:
    """What must not ship, a sentence each: shared memory, unwritten registers, narrow addresses, spills."""
    found: list[str] = []
    for row in rows:
        binary, source = row.binary, row.job.source
        name = f"{binary.kernel}, {DTYPES[source.precision]}, {row.job.sizes}, {_tile(row.binary)} on sm_{binary.arch}"
        if not binary.fits:
            found.append(f"{name} needs {binary.shared_bytes} bytes of shared memory, more than the chip has")
        if binary.unwritten:
            found.append(f"{name} reads registers that nothing wrote, {listed(binary.unwritten, 4)}: docs/kernels.md")
        if binary.narrow:
            found.append(f"{name} adds 32-bit offsets to {', '.join(binary.narrow)}: wrong beyond 2^31 elements")
        if row.job.default and binary.spilled_bytes > row.allowed:
            found.append(f"{name} spills {binary.spilled_bytes} bytes; SPILLS in tiles.py has {row.allowed}")
    return found
