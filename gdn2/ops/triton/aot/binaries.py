"""One variant, compiled for one architecture without a GPU, and what its binary says of itself."""

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

from gdn2.ops.triton.aot.instructions import narrow_addresses, unwritten_registers
from gdn2.ops.triton.forms import Form, form_for
from gdn2.ops.triton.kernel_set import KERNELS, KernelSet
from gdn2.ops.triton.launch import OPTIONS
from gdn2.ops.triton.layout import padded_key_dim, padded_value_dim
from gdn2.ops.triton.tiles import Tile, shared_memory_limit
from gdn2.ops.triton.variants import (
    PREPARE,
    PREPARE_BACKWARD,
    PREPARE_BACKWARD_BY_LEVEL,
    PREPARE_BY_LEVEL,
    RECURRENT,
    RECURRENT_FRESH,
    SCAN_BOTH_WAYS,
    SCAN_OUTPUT,
    SCAN_OUTPUT_WIDE,
    SCAN_WRITES,
    SCAN_WRITES_WIDE,
    Variant,
)

FLOAT32 = {"p_L", "p_carry", "p_first", "p_last", "p_after", "p_before", "p_g", "p_dg"}
INPUTS = {"p_q", "p_k", "p_b", "p_v", "p_w", "p_o", "p_do", "p_dq", "p_dk", "p_db", "p_dv", "p_dw"}
INTEGERS = {"p_starts": "*i64", "p_lengths": "*i32", "p_offsets": "*i32", "p_by_level": "*i32"}
_OUTPUT = ("p_H", "p_after", "p_before")
ABSENT: dict[Variant, tuple[str, ...]] = {
    PREPARE: ("p_do",),
    PREPARE_BY_LEVEL: ("p_do",),
    PREPARE_BACKWARD: ("p_o",),
    PREPARE_BACKWARD_BY_LEVEL: ("p_o",),
    SCAN_OUTPUT: _OUTPUT,
    SCAN_OUTPUT_WIDE: _OUTPUT,
    SCAN_BOTH_WAYS: ("p_o", "p_starts", "p_lengths"),
}  # the arguments that are None
OF_FLAGS = {"HAS_FIRST": "p_first", "HAS_AFTER": "p_after", "PACKED": "p_offsets"}  # None without their flag
FLAGS: dict[Variant, tuple[str, ...]] = {
    PREPARE: ("VALUE_FIRST",),
    PREPARE_BY_LEVEL: ("VALUE_FIRST",),
    SCAN_OUTPUT: ("HAS_FIRST",),
    SCAN_OUTPUT_WIDE: ("HAS_FIRST",),
    SCAN_WRITES: ("HAS_FIRST",),
    SCAN_WRITES_WIDE: ("HAS_FIRST",),
    SCAN_BOTH_WAYS: ("HAS_FIRST", "HAS_AFTER"),
    RECURRENT: ("PACKED",),
    RECURRENT_FRESH: ("PACKED",),
}  # what depends on the call: U0 transposed, an initial state, an adjoint of the last one, packed sequences


@dataclass(frozen=True)
class KernelSource:
    """One variant for head sizes, a precision, an architecture and a tile.

    Attributes:
        variant: which kernel, and how it is compiled.
        arch: compute capability x 10.
        K: the key dim, padded or not.
        V: the value dim, padded or not.
        precision: of matrix products.
        tile: the items of a tile.
        flags: the names in FLAGS that are set.
    """

    variant: Variant
    arch: int
    K: int
    V: int
    precision: str
    tile: tuple[tuple[str, int], ...]
    flags: tuple[str, ...] = ("HAS_FIRST", "HAS_AFTER")

    @property
    def form(self) -> Form:
        """In which a chunk goes from `prepare` to the scan of the forward pass."""
        return form_for(padded_key_dim(self.K), padded_value_dim(self.V), self.precision, self.arch)

    @property
    def constants(self) -> dict[str, Any]:
        """The compile-time arguments: two sources with the same ones are the same binary."""
        kernels = KernelSet(self.K, self.V, self.precision, torch.device("cpu"), form=self.form)
        tile = dict(self.tile)
        flags = {name: name in self.flags for name in OF_FLAGS}
        if self.variant.with_output:
            flags["HAS_AFTER"] = False
        if self.variant.kernel == "prepare":
            flags["VALUE_FIRST"] = self.form.late and "VALUE_FIRST" in self.flags
        if self.variant.kernel == "recurrent":
            flags["HAS_FIRST"] = not self.variant.from_zero
        values = kernels.constants(self.variant, tile) | tile | flags
        constants = {key: value for key, value in values.items() if key in KERNELS[self.variant.kernel].arg_names}
        absent = [name for flag, name in OF_FLAGS.items() if flag in constants and not constants[flag]]
        return constants | dict.fromkeys([*ABSENT.get(self.variant, ()), *absent])

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two sources that give the same binary."""
        return self.variant, self.arch, self.precision, self.tile, tuple(self.constants.items())


@dataclass(frozen=True)
class Compiled:
    """What one kernel costs on one architecture.

    Attributes:
        kernel: the name of the variant, or of a kernel of a layer's small steps.
        arch: compute capability x 10.
        tile: compiler options and block sizes.
        registers: of a thread.
        spilled_bytes: of a thread, to local memory.
        shared_bytes: shared memory of a program.
        matrix: the number of matrix instructions in the code.
        wgmma: how many of these are wgmma instructions.
        unwritten: uniform registers that are read before anything wrote them; on sm_90 only, since other architectures
            address their matrix operands in other ways.
        narrow: tensors whose addresses end at 2^31 elements, since offsets of 32 bits are added to them.
    """

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
        """Whether a program's shared memory is no more than its chip has."""
        return self.shared_bytes <= shared_memory_limit(self.arch)


def compile_source(source: KernelSource) -> Compiled:
    """Compile what a call would that has contiguous, aligned inputs of the source's precision."""
    ast, options = ast_of(source)
    return _compiled(source.variant.name, ast, source.arch, dict(source.tile), options)


def compile_kernel(
    name: str, fn: Any, types: dict[str, Any], constants: dict[str, Any], arch: int, tile: Tile
) -> Compiled:
    """Compile any kernel, with all pointers aligned.

    Args:
        name: of the kernel, for tables.
        fn: a `triton.jit` function.
        types: of its arguments, by name; "constexpr" for those in `constants`, a tuple for a tuple of pointers.
        constants: compile-time arguments.
        arch: compute capability x 10.
        tile: compiler options and block sizes.
    """
    places = [
        (i, *part)
        for i, kind in enumerate(types.values())
        for part in ([(j,) for j in range(len(kind))] if isinstance(kind, tuple) else [()] * kind.startswith("*"))
    ]
    aligned = {place: [["tt.divisibility", 16]] for place in places}
    options = {option: value for option, value in tile.items() if option in OPTIONS}
    return _compiled(name, ASTSource(fn, types, constants, aligned), arch, tile, options)


def _compiled(name: str, ast: ASTSource, arch: int, tile: Tile, options: dict[str, int]) -> Compiled:
    binary = triton.compile(ast, target=GPUTarget("cuda", arch, 32), options=options)
    usage, sass = disassemble(binary.asm["cubin"])
    return Compiled(
        name, arch, tile, _number("REG", usage), _number("STACK", usage), binary.metadata.shared,
        len(re.findall(r"\b(?:HMMA|HGMMA|UTC\w*MMA)\b", sass)), len(re.findall(r"\bHGMMA\b", sass)),
        unwritten_registers(sass) if arch == 90 else (), narrow_addresses(binary.asm["ttir"]),
    )  # fmt: skip


def _number(name: str, usage: str) -> int:
    """A number of `cuobjdump --dump-resource-usage`, such as 64 of REG:64."""
    return int(usage.split(f"{name}:")[1].split()[0])


def ast_of(source: KernelSource) -> tuple[ASTSource, dict[str, int]]:
    """What `triton.compile` takes: the kernel with its signature and constants, and compiler options."""
    kernel, constants = KERNELS[source.variant.kernel], source.constants
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


def _type(argument: str, source: KernelSource) -> str:
    if source.variant.kernel == "recurrent" and argument == "p_offsets":
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


def disassemble(cubin: bytes) -> tuple[str, str]:
    """What a binary uses, and its machine code, as `cuobjdump` prints them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        outputs = [
            subprocess.run([_tool(), option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("--dump-resource-usage", "-sass")
        ]
    return outputs[0], outputs[1]
