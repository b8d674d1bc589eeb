"""One kernel, compiled for one architecture without a GPU, and what its binary says of itself."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gdn2.ops.triton.launch import OPTIONS
from gdn2.ops.triton.plan import KERNELS, Plan
from gdn2.ops.triton.tiles import Tile, shared_memory_limit

FLOAT32 = {"p_L", "p_carry", "p_first", "p_last", "p_after", "p_before", "p_g", "p_dg"}
INPUTS = {"p_q", "p_k", "p_b", "p_v", "p_w", "p_o", "p_do", "p_dq", "p_dk", "p_db", "p_dv", "p_dw"}
INTEGERS = {"p_starts": "*i64", "p_lengths": "*i32", "p_offsets": "*i32", "p_by_level": "*i32"}
_OUTPUT = ("p_H", "p_after", "p_before")
ABSENT = {
    "prepare": ("p_do",),
    "prepare_by_level": ("p_do",),
    "prepare_backward": ("p_o",),
    "prepare_backward_by_level": ("p_o",),
    "scan_output": _OUTPUT,
    "scan_output_wide": _OUTPUT,
    "scan_both_ways": ("p_o", "p_starts", "p_lengths"),
}  # the arguments that are None
OF_FLAGS = {"HAS_FIRST": "p_first", "HAS_AFTER": "p_after", "PACKED": "p_offsets"}  # None without their flag
FLAGS: dict[str, tuple[str, ...]] = {
    "scan_output": ("HAS_FIRST",),
    "scan_output_wide": ("HAS_FIRST",),
    "scan_both_ways": ("HAS_FIRST", "HAS_AFTER"),
    "recurrent": ("PACKED",),
    "recurrent_fresh": ("PACKED",),
}  # compile-time arguments that depend on the call: a state before, an adjoint behind, packed sequences
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Za-z0-9_.]*)\s*(.*?);")


@dataclass(frozen=True)
class Source:
    """One kernel of plan.py for padded or plain head sizes, a precision, an architecture and a tile.

    `flags` are the names of FLAGS that are set.
    """

    kernel: str
    arch: int
    K: int
    V: int
    precision: str
    tile: tuple[tuple[str, int], ...]
    flags: tuple[str, ...] = ("HAS_FIRST", "HAS_AFTER")

    @property
    def constants(self) -> dict[str, Any]:
        """The compile-time arguments: two sources with the same ones are the same binary."""
        plan, tile = Plan(self.K, self.V, self.precision, torch.device("cpu")), dict(self.tile)
        flags = {name: name in self.flags for name in OF_FLAGS}
        if self.kernel.startswith("scan_output"):
            flags["HAS_AFTER"] = False
        if self.kernel.startswith("recurrent"):
            flags["HAS_FIRST"] = self.kernel == "recurrent"
        values = plan.constants(self.kernel, tile) | tile | flags
        constants = {key: value for key, value in values.items() if key in KERNELS[self.kernel].arg_names}
        absent = [name for flag, name in OF_FLAGS.items() if flag in constants and not constants[flag]]
        return constants | dict.fromkeys([*ABSENT.get(self.kernel, ()), *absent])

    @property
    def key(self) -> tuple[Any, ...]:
        return self.kernel, self.arch, self.precision, self.tile, tuple(self.constants.items())


@dataclass(frozen=True)
class Compiled:
    """What one kernel costs on one architecture; `matrix` counts matrix instructions, wgmma ones
    apart; `unwritten` lists uniform registers that are read before any instruction wrote them
    (sm_90 only: others address their matrix operands in other ways); `narrow` the places where a
    tensor's address plus 32 bits is computed, which ends at 2^31 elements."""

    kernel: str
    arch: int
    tile: Tile
    registers: int
    spilled_bytes: int
    shared_bytes: int
    matrix: int
    wgmma: int
    unwritten: tuple[str, ...]
    narrow: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.shared_bytes <= shared_memory_limit(self.arch)


def compile_source(source: Source) -> Compiled:
    """Compile as a call with inputs of that precision on contiguous, aligned tensors would."""
    ast, options = ast_of(source)
    return _compiled(source.kernel, ast, source.arch, dict(source.tile), options)


def compile_kernel(
    name: str, fn: Any, types: dict[str, str], constants: dict[str, Any], arch: int, tile: Tile
) -> Compiled:
    """Compile a kernel for arguments of these types ("constexpr" for those in `constants`), pointers aligned."""
    aligned = {(i,): [["tt.divisibility", 16]] for i, argument in enumerate(types) if types[argument].startswith("*")}
    options = {option: value for option, value in tile.items() if option in OPTIONS}
    return _compiled(name, ASTSource(fn, types, constants, aligned), arch, tile, options)


def _compiled(name: str, ast: ASTSource, arch: int, tile: Tile, options: dict[str, int]) -> Compiled:
    binary = triton.compile(ast, target=GPUTarget("cuda", arch, 32), options=options)
    usage, sass = _disassemble(binary.asm["cubin"])
    return Compiled(
        name, arch, tile, int(re.search(r"REG:(\d+)", usage)[1]),  # type: ignore[index]
        int(re.search(r"STACK:(\d+)", usage)[1]), binary.metadata.shared,  # type: ignore[index]
        len(re.findall(r"\b(?:HMMA|HGMMA|UTC\w*MMA)\b", sass)), len(re.findall(r"\bHGMMA\b", sass)),
        unwritten_registers(sass) if arch == 90 else (), narrow_addresses(binary.asm["ttir"]),
    )  # fmt: skip


def narrow_addresses(ttir: str) -> tuple[str, ...]:
    """Additions of 32-bit offsets to the address of a floating-point tensor as it came in, in Triton's first form of a
    kernel. Offsets within a tile, added to an address of 64 bits before, are no such places."""
    arguments = set(re.findall(r"%(p_\w+): !tt\.ptr<(?:f|bf)\d+>", ttir))
    spread = dict(re.findall(r"%(\w+) = tt\.splat %(p_\w+) :", ttir))
    places = re.findall(r"tt\.addptr %(\w+), %\w+ : \S+, (?:tensor<(?:\d+x)+)?i32\b", ttir)
    return tuple(sorted({base for base in (spread.get(name, name) for name in places) if base in arguments}))


def ast_of(source: Source) -> tuple[ASTSource, dict[str, int]]:
    """What `triton.compile` takes: the kernel with its signature and constants, and compiler options."""
    kernel, constants = KERNELS[source.kernel], source.constants
    fn = kernel.fn if hasattr(kernel, "fn") and not hasattr(kernel, "arg_names") else kernel
    signature, attributes = {}, {}
    for i, argument in enumerate(fn.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        else:
            signature[argument] = _type(argument, source)
            if argument.startswith("p_"):
                attributes[(i,)] = [["tt.divisibility", 16]]
    options = {name: value for name, value in source.tile if name in OPTIONS}
    return ASTSource(fn, signature, constants, attributes), options


def _type(argument: str, source: Source) -> str:
    if source.kernel.startswith("recurrent") and argument == "p_offsets":
        return "*i64"
    if argument in INTEGERS:
        return INTEGERS[argument]
    if not argument.startswith("p_"):
        return "fp32" if argument == "scale" else "i32"
    if argument in FLOAT32 or source.precision == "tf32x3":
        return "*fp32"
    if source.precision == "tf32":
        return "*fp16" if argument in INPUTS else "*fp32"
    return "*bf16"


@lru_cache(maxsize=1)
def _tool() -> Path:
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


def _disassemble(cubin: bytes) -> tuple[str, str]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        outputs = [
            subprocess.run([_tool(), option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        ]
    return outputs[0], outputs[1]


def unwritten_registers(sass: str) -> tuple[str, ...]:
    """Uniform registers that are read before anything wrote them, in the order of addresses.

    Some releases of ptxas compute the addresses of wgmma operands from such a register ("A compiler's fault" in
    docs/kernels.md); the kernel then reads foreign shared memory. Registers hold 32 bits: 64-bit operations use two in
    a row (a wide multiplication for its result and what it adds, not for its factors; a descriptor of memory only where
    its number is even, as pairs are), the descriptors of a wgmma four, of which it reads the last two where its first
    operand is in registers.
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
        added = operands[-1] if ".WIDE" in operation else ""
        for kind, text, number in re.findall(r"(gdesc\[|desc\[)?(UR(\d+))", sources):
            first = 2 if kind == "gdesc[" and re.match(r"R\d+,R\d+", sources) else 0
            plain = width if uniform and (not added or re.search(rf"\b{text}\b", added)) else 1
            count = {"gdesc[": 4, "desc[": 2 - int(number) % 2, "": plain}[kind]
            missing = {int(number) + i for i in range(first, count)} - written
            found += [f"UR{register} in {operation}" for register in sorted(missing)]
            written |= missing
        if target:
            written |= {int(target[1]) + i for i in range(width)}
    return tuple(found)
