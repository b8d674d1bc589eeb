"""Compile every kernel without a GPU and read what the assembler says: `python -m gdn2.ops.triton.aot`.

For each kernel, its default tile (or all candidates) and each architecture: registers a thread, bytes spilled to local
memory, shared memory, and the matrix instructions of the binary.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gdn2.ops.triton.launch import OPTIONS
from gdn2.ops.triton.layout import padded_key_dim, padded_value_dim
from gdn2.ops.triton.plan import KERNELS, Plan
from gdn2.ops.triton.tiles import CHUNK_SIZE, Tile, tiles_for

ARCHITECTURES = (80, 90, 100)
SHARED_MEMORY_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes a program can have

FLOAT32 = {"p_L", "p_carry", "p_first", "p_last", "p_after", "p_before", "p_g", "p_dg"}
INPUTS = {"p_q", "p_k", "p_b", "p_v", "p_w", "p_o", "p_do", "p_dq", "p_dk", "p_db", "p_dv", "p_dw"}
ABSENT = {
    "transition": ("p_do",),
    "transition_backward": ("p_o",),
    "scan": ("p_R", "p_H", "p_after", "p_before"),
    "recurrent": ("p_offsets",),
}  # arguments that are None
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Za-z0-9_.]*)\s*(.*?);")
INTEGERS = {"p_starts": "*i64", "p_lengths": "*i32", "p_offsets": "*i32", "p_by_level": "*i32"}


@dataclass(frozen=True)
class Compiled:
    """What one kernel costs on one architecture; `matrix` counts matrix instructions, wgmma ones
    apart; `unwritten` lists uniform registers that are read before any instruction wrote them
    (sm_90 only: others address their matrix operands in other ways)."""

    kernel: str
    arch: int
    tile: Tile
    registers: int
    spilled_bytes: int
    shared_bytes: int
    matrix: int
    wgmma: int
    unwritten: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.shared_bytes <= SHARED_MEMORY_LIMIT[self.arch]


def compile_kernel(name: str, tile: Tile, arch: int, K: int, V: int, precision: str) -> Compiled:
    """Compile one kernel as a call with bfloat16 (or float32) inputs on contiguous, aligned tensors would."""
    kernel = KERNELS[name]
    fn = kernel.fn if hasattr(kernel, "fn") and not hasattr(kernel, "arg_names") else kernel
    constants = _constants(name, Plan(K, V, precision, torch.device("cpu")), tile)
    signature, attributes = {}, {}
    for i, argument in enumerate(fn.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        else:
            signature[argument] = _type(argument, precision)
            if argument.startswith("p_"):
                attributes[(i,)] = [["tt.divisibility", 16]]
    options = {name: tile[name] for name in OPTIONS if name in tile}
    source = ASTSource(fn, signature, constants, attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    usage, sass = _disassemble(binary.asm["cubin"])
    return Compiled(
        name, arch, tile, int(re.search(r"REG:(\d+)", usage)[1]),  # type: ignore[index]
        int(re.search(r"STACK:(\d+)", usage)[1]), binary.metadata.shared,  # type: ignore[index]
        len(re.findall(r"\b(?:HMMA|HGMMA|UTC\w*MMA)\b", sass)), len(re.findall(r"\bHGMMA\b", sass)),
        unwritten_registers(sass) if arch == 90 else (),
    )  # fmt: skip


def _constants(name: str, plan: Plan, tile: Tile) -> dict[str, Any]:
    flags = {"HAS_FIRST": True, "HAS_AFTER": True, "PACKED": False}
    values = plan.constants(name, tile) | tile | flags
    constants = {key: value for key, value in values.items() if key in KERNELS[name].arg_names}
    return constants | dict.fromkeys(ABSENT.get(name, ()))


def _type(argument: str, precision: str) -> str:
    if argument in INTEGERS:
        return INTEGERS[argument]
    if not argument.startswith("p_"):
        return "fp32" if argument == "scale" else "i32"
    if argument in FLOAT32 or precision == "tf32x3":
        return "*fp32"
    if precision == "tf32":
        return "*fp16" if argument in INPUTS else "*fp32"
    return "*bf16"


def _disassemble(cubin: bytes) -> tuple[str, str]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        outputs = [
            subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        ]
    return outputs[0], outputs[1]


def unwritten_registers(sass: str) -> tuple[str, ...]:
    """Uniform registers that are read before anything wrote them, in the order of addresses.

    Some releases of ptxas compute the addresses of wgmma operands from such a register ("A compiler's fault" in
    docs/kernels.md); the kernel then reads foreign shared memory. Registers hold 32 bits: 64-bit operations use two in
    a row, the descriptors of a wgmma four, of which it reads the last two where its first operand is in registers.
    """
    written: set[int] = set()
    found: list[str] = []
    for line in sass.splitlines():
        match = INSTRUCTION.match(line)
        if not match:
            continue
        operation, operands = match[1], [part.strip() for part in match[2].split(",")]
        uniform = operation.startswith(("U", "S2UR", "R2UR", "CS2UR", "VOTEU", "LDCU"))
        width = 4 if ".128" in operation else 2 if ".64" in operation or ".WIDE" in operation else 1
        target = re.fullmatch(r"UR(\d+)", operands[0]) if uniform else None
        sources = ",".join(operands[1:] if target else operands)
        for kind, number in re.findall(r"(gdesc\[|desc\[)?UR(\d+)", sources):
            first = 2 if kind == "gdesc[" and re.match(r"R\d+,R\d+", sources) else 0
            count = {"gdesc[": 4, "desc[": 2, "": width if uniform else 1}[kind]
            missing = {int(number) + i for i in range(first, count)} - written
            found += [f"UR{register} in {operation}" for register in sorted(missing)]
            written |= missing
        if target:
            written |= {int(target[1]) + i for i in range(width)}
    return tuple(found)


def compile_all(
    archs: list[int], K: int, V: int, precision: str, *, kernels: list[str], candidates: bool
) -> Iterator[Compiled]:
    for name in kernels:
        for arch in archs:
            tiles = tiles_for(name, padded_key_dim(K), padded_value_dim(V), precision, arch)
            for tile in tiles if candidates else tiles[:1]:
                yield compile_kernel(name, tile, arch, K, V, precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, nargs="+", default=list(ARCHITECTURES), help="compute capability x 10")
    parser.add_argument("--key-dim", type=int, default=128)
    parser.add_argument("--value-dim", type=int, default=128)
    parser.add_argument("--precision", choices=list(CHUNK_SIZE), default="bf16")
    parser.add_argument("--candidates", action="store_true", help="every tile that tuning considers, not the default")
    parser.add_argument("--kernels", nargs="+", default=list(KERNELS), choices=list(KERNELS))
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    rows = []
    print("| kernel | tile | sm | registers | spilled bytes | shared kB | matrix instructions (wgmma) |")
    print("|---|---|---|---|---|---|---|")
    for row in compile_all(
        arguments.arch,
        arguments.key_dim,
        arguments.value_dim,
        arguments.precision,
        kernels=arguments.kernels,
        candidates=arguments.candidates,
    ):
        rows.append(row)
        tile = " ".join(f"{key.removeprefix('num_')} {value}" for key, value in row.tile.items())
        print(
            f"| {row.kernel} | {tile} | {row.arch} | {row.registers} | {row.spilled_bytes} | "
            f"{row.shared_bytes / 1024:.0f} | {row.matrix} ({row.wgmma}) |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    for row in rows:
        if row.unwritten:
            print(f"{row.kernel} on sm_{row.arch}: {', '.join(row.unwritten[:4])} not written before", file=sys.stderr)
    if not all(row.fits for row in rows):
        sys.exit("some kernels need more shared memory than the architecture has")
    if any(row.unwritten for row in rows):
        sys.exit("the assembler read registers that nothing had written: see docs/kernels.md")


if __name__ == "__main__":
    main()
