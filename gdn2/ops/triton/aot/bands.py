"""The binaries of attention over runs of tokens (banded.py, banded_backward.py), compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import triton

from gdn2.ops.triton.aot.binaries import Compiled, compile_kernel
from gdn2.ops.triton.aot.layers import POINTERS
from gdn2.ops.triton.band_tiles import FORWARD, OF_KEYS, OF_QUERIES, candidates
from gdn2.ops.triton.banded import forward_kernel
from gdn2.ops.triton.banded_backward import keys_kernel, queries_kernel
from gdn2.ops.triton.launch import OPTIONS

KERNELS: dict[str, Any] = {FORWARD: forward_kernel, OF_QUERIES: queries_kernel, OF_KEYS: keys_kernel}
FLAGS = ("WINDOWED", "NARROW", "BOUNDED", "RING", "CACHED")
TYPES = {"p_before": "*i64", "p_start": "*i64", "p_count": "*i64", "p_lse": "*fp32", "p_delta": "*fp32",
         "scale": "fp32", "factor": "fp32"}  # fmt: skip
CALLS: dict[str, tuple[str, ...]] = {
    "a window": ("WINDOWED",),
    "padding in a window": ("WINDOWED", "BOUNDED"),
    "behind a ring": ("WINDOWED", "RING"),
    "over slots": ("BOUNDED", "CACHED"),
}  # the flags of a call; the last two have no gradients
QUICK = {(FORWARD, "behind a ring"), (OF_QUERIES, "a window"), (OF_KEYS, "a window")}
SPILL = 64  # most bytes that a default tile may spill for inputs of 16 bits, by heads of 256


@dataclass(frozen=True)
class BandSource:
    """One kernel for a kind of call, a head, an architecture and a tile.

    Attributes:
        kernel: a key of KERNELS.
        call: a key of CALLS.
        channels: of a head.
        precision: a key of POINTERS.
        arch: compute capability x 10.
        tile: the items of a tile.
        default: whether that is the default one.
    """

    kernel: str
    call: str
    channels: int
    precision: str
    arch: int
    tile: tuple[tuple[str, int], ...]
    default: bool


def band_sources(
    archs: Iterable[int], precisions: Iterable[str], channels: int, *, every_tile: bool
) -> Iterator[BandSource]:
    """All kernels, calls and tiles; the default tiles only, unless `every_tile`."""
    for arch in archs:
        for precision in precisions:
            for kernel in KERNELS:
                tiles = candidates(kernel, channels, 4 if precision == "tf32x3" else 2, arch)
                for call in list(CALLS)[: None if kernel == FORWARD else 2]:
                    for i, tile in enumerate(tiles if every_tile else tiles[:1]):
                        yield BandSource(kernel, call, channels, precision, arch, tuple(tile.items()), i == 0)


def compile_band(source: BandSource) -> Compiled:
    """Compile what a call on contiguous, aligned tensors with a key for each query head would."""
    kernel, D, tile = KERNELS[source.kernel], source.channels, dict(source.tile)
    fn = kernel.fn if not hasattr(kernel, "arg_names") else kernel
    flags = {flag: flag in CALLS[source.call] for flag in FLAGS}
    constants: dict[str, Any] = {"D": D, "DP": max(16, triton.next_power_of_2(D)), "R": 1, **flags, **tile}
    present = {"p_ring_k": flags["RING"], "p_ring_v": flags["RING"], "p_before": flags["RING"] or flags["CACHED"],
               "p_start": flags["BOUNDED"], "p_count": flags["BOUNDED"]}  # fmt: skip
    if source.kernel == FORWARD:
        present["p_lse"] = not (flags["RING"] or flags["CACHED"])
    constants |= dict.fromkeys(name for name, given in present.items() if not given)
    constants = {name: value for name, value in constants.items() if name in fn.arg_names and name not in OPTIONS}
    types = {}
    for argument in fn.arg_names:
        inputs = POINTERS[source.precision] if argument.startswith("p_") else "i32"
        types[argument] = "constexpr" if argument in constants else TYPES.get(argument, inputs)
    return compile_kernel(f"{source.kernel}, {source.call}", fn, types, constants, source.arch, tile)


def band_faults(source: BandSource, binary: Compiled) -> list[str]:
    """What must not ship: a binary that does not fit, reads what nothing wrote, or a default that spills in 16 bits."""
    name = f"{binary.kernel}, heads of {source.channels}, {source.precision}, sm_{source.arch}, {dict(source.tile)}"
    spills = source.default and source.precision != "tf32x3" and binary.spilled_bytes > SPILL
    found = {
        f"{name} needs {binary.shared_bytes} bytes of shared memory": not binary.fits,
        f"{name} spills {binary.spilled_bytes} bytes": spills,
        f"{name} reads registers that nothing wrote": bool(binary.unwritten),
        f"{name} adds 32-bit offsets to {', '.join(binary.narrow)}: wrong beyond 2^31 elements": bool(binary.narrow),
    }
    return [fault for fault, is_there in found.items() if is_there]
