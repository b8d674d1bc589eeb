"""The kernels for one kind of call: sizes, compile-time arguments, tiles, and launchers that are made once.

A kernel set belongs to dtypes, head sizes and a device, not to lengths: an evaluation with three hundred prompt lengths
uses one set, and compiles each kernel once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gdn2.ops.triton.backward import key_gradients_kernel, value_gradients_kernel
from gdn2.ops.triton.choice import architecture, tile_for
from gdn2.ops.triton.decay import LOG2_E
from gdn2.ops.triton.forms import Form, form_for
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.layout import MAX_KEY_DIM, padded_key_dim, padded_value_dim, usual_times
from gdn2.ops.triton.prepare import prepare_kernel
from gdn2.ops.triton.recurrent import recurrent_kernel
from gdn2.ops.triton.scan import scan_kernel
from gdn2.ops.triton.scan_writes import scan_writes_kernel
from gdn2.ops.triton.tiles import CHUNK_SIZE, MAX_RANGE, PRECISION, Tile
from gdn2.ops.triton.variants import KernelName, Variant

MAX_PROGRAMS = 2**31 - 1  # of a launch along its first axis, the only one in use
FEW_PROGRAMS = 128  # of 16 value columns: they run at once, one on a multiprocessor, and nothing runs beside them

KERNELS: dict[KernelName, Any] = {
    "prepare": prepare_kernel,
    "scan": scan_kernel,
    "scan_writes": scan_writes_kernel,
    "value_gradients": value_gradients_kernel,
    "key_gradients": key_gradients_kernel,
    "recurrent": recurrent_kernel,
}

TileChoice = Callable[[Variant, int, int, str, torch.device], Tile]  # variant, KP, VP, precision, device
LaunchHook = Callable[[Variant, int, tuple[Any, ...], dict[str, bool]], None]  # variant, slots, arguments, flags


def kernels_for(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor) -> KernelSet:
    """The kernel set for these inputs, the same one for every call of their kind.

    Raises:
        ValueError: d_k is above 256, or a dtype is none of float32, bfloat16 and float16.
    """
    dtypes = (q.dtype, k.dtype, v.dtype, g.dtype, b.dtype, w.dtype)
    return _kernels_for(q.shape[-1], v.shape[-1], dtypes, q.device)


@lru_cache(maxsize=256)
def _kernels_for(K: int, V: int, dtypes: tuple[torch.dtype, ...], device: torch.device) -> KernelSet:
    for name, dtype in zip(("q", "k", "v", "g", "b", "w"), dtypes, strict=True):
        if dtype not in PRECISION:
            raise ValueError(f"the triton backend takes float32, bfloat16 and float16, got {name} in {dtype}")
    if not 1 <= K <= MAX_KEY_DIM:
        raise ValueError(f"the triton backend takes d_k from 1 to {MAX_KEY_DIM}, got q with d_k = {K}")
    return KernelSet(K, V, PRECISION[dtypes[2]], device)


class KernelSet:
    """The kernels for one kind of call, with what their launches share.

    Letters are those of gdn2/README.md; KP and VP are K and V padded for tiles, a chunk has C tokens.

    Args:
        K: the key dim d_k.
        V: the value dim d_v.
        precision: of matrix products: "bf16", "tf32" or "tf32x3" (decay.py).
        device: where the inputs are.
        choose_tile: gives the tile of a variant; `choice.tile_for` if None.
        few_programs: up to so many programs the scan of few sequences runs, beyond them that of many.
        form: in which a chunk goes from `prepare` to the scan of the forward pass; `form_for` if None.
        few_segments: up to so many segments the scan of few sequences runs, beyond them that of many.
        segment_times: a segment has so many times the usual number of tokens; `usual_times` if None.
        on_launch: called before each launch. It sees the tensors themselves, which the launch may overwrite.

    Attributes:
        scratch_dtype: the dtype of the tiles that kernels hand to each other.
    """

    def __init__(
        self, K: int, V: int, precision: str, device: torch.device,
        *, choose_tile: TileChoice | None = None, few_programs: int = FEW_PROGRAMS, form: Form | None = None,
        few_segments: int = 1, segment_times: float | None = None, on_launch: LaunchHook | None = None,
    ) -> None:  # fmt: skip
        self.K, self.V, self.precision, self.device = K, V, precision, device
        self.KP, self.VP, self.C = padded_key_dim(K), padded_value_dim(V), CHUNK_SIZE[precision]
        self.scratch_dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.choose_tile, self.few_programs, self.on_launch = choose_tile or tile_for, few_programs, on_launch
        self.form = form or form_for(self.KP, self.VP, precision, architecture(device))
        self.few_segments, self.segment_times = few_segments, segment_times
        self._tiles: dict[str, Tile] = {}
        self._launches: dict[Hashable, VariantLaunch] = {}

    def tile(self, variant: Variant) -> Tile:
        """The tile of a variant, chosen once."""
        if variant.name not in self._tiles:
            self._tiles[variant.name] = self.choose_tile(variant, self.KP, self.VP, self.precision, self.device)
        return self._tiles[variant.name]

    def launch(self, variant: Variant, slots: int, *arguments: Any, **flags: bool) -> None:
        """Run a variant over `slots`: chunks, or sequences, times heads.

        Args:
            variant: which kernel, and how it is compiled.
            slots: the number of chunks or sequences, times the number of heads.
            arguments: of the kernel, in its order.
            flags: compile-time arguments that depend on the call, such as which of the arguments are None.

        Raises:
            ValueError: the launch would need more programs than one launch can have.
        """
        found = self.resolved(variant, **flags)
        found.launcher((found.programs(slots, arguments), 1, 1), *arguments)

    def resolved(self, variant: Variant, **flags: bool) -> VariantLaunch:
        """What launches a variant with these flags, for calls that do so many times; made once."""
        key = (variant.name, *flags.values())
        if key not in self._launches:
            tile = self.tile(variant)
            launcher = Launcher(KERNELS[variant.kernel], self.constants(variant, tile) | flags, tile)
            self._launches[key] = VariantLaunch(variant, flags, launcher, self.blocks(variant, tile), self.on_launch)
        return self._launches[key]

    def constants(self, variant: Variant, tile: Tile) -> dict[str, Any]:
        """Every compile-time argument that a variant's kernel could have, except tile sizes and flags."""
        of_inverse = "tf32" if self.precision == "bf16" else "tf32x3"  # M is rounded to bfloat16 afterwards
        return {
            "K": self.K, "V": self.V, "KP": self.KP, "VP": self.VP, "C": self.C, "LOG_C": self.C.bit_length() - 1,
            "KB": min(self.KP, 128), "MAX_RANGE": MAX_RANGE[self.precision] * LOG2_E.value, "PRECISION": self.precision,
            "OF_INVERSE": of_inverse,
            "BY_LEVEL": variant.by_level, "FOR_BACKWARD": variant.for_backward,
            "WRITES": self.form.writes and not variant.for_backward,
            "LATE": self.form.late and not variant.for_backward,
            "VALUE_FIRST": self.form.is_value_first(variant), "KEPT": False,
            "BOTH_WAYS": variant.both_ways, "WITH_OUTPUT": variant.with_output,
            "STAGES": tile["num_stages"], "BJ": 0, "BLOCKS": self.blocks(variant, tile),
        }  # fmt: skip

    def blocks(self, variant: Variant, tile: Tile) -> int:
        """The number of programs that share one chunk or sequence of a head."""
        if variant.kernel == "key_gradients":
            return self.KP // tile["BK"]
        if variant.kernel in ("scan", "scan_writes"):
            return self.VP // tile["BV"]
        return -(-self.V // tile["BV"]) if variant.kernel == "recurrent" else 1

    def output_scan(self, sequences: int, num_segments: int) -> Variant:
        """The variant of the scan for so many sequences (times heads) that run in so many segments."""
        few = num_segments <= self.few_segments and sequences * self.VP // 16 <= self.few_programs
        return self.form.scans[0 if few else 1]

    def times(self, sequences: int, tokens: int, *, learning: bool) -> float:
        """How many times the usual number of tokens a segment of a call has, as `usual_times` has it."""
        if self.segment_times is not None:
            return self.segment_times
        return usual_times(max(self.KP, self.VP), sequences, tokens, learning=learning)

    def empty(self, slots: int, size: int, dtype: torch.dtype | None = None) -> Tensor:
        """Scratch memory of `slots` (chunks times heads) tiles of `size` numbers, uninitialised."""
        return torch.empty(slots * size, dtype=dtype or self.scratch_dtype, device=self.device)

    def empty_state(self, N: int, H: int) -> Tensor:
        """A state [N, H, K, V] in float32, uninitialised."""
        return torch.empty(N, H, self.K, self.V, dtype=torch.float32, device=self.device)


class VariantLaunch(NamedTuple):
    """A variant with its flags, and what launches it.

    Attributes:
        variant: which kernel, and how it is compiled.
        flags: its compile-time arguments that depend on the call.
        launcher: what runs it.
        blocks: the number of programs that share one slot.
        hook: is called before each launch; None: nothing is.
    """

    variant: Variant
    flags: dict[str, bool]
    launcher: Launcher
    blocks: int
    hook: LaunchHook | None

    @property
    def takes_addresses(self) -> bool:
        """Whether tensors may be given as their addresses: the binary is there, and no hook wants to see tensors."""
        return self.hook is None and self.launcher.compiled is not None

    def to(self, stream: torch.cuda.Stream | None) -> Callable[..., None]:
        """What launches on a stream of the current device, or on the current stream: `run(slots, *arguments)`.

        It is made for one call: Triton's hooks that are set later do not hear of its launches.
        """
        run, programs = self.launcher.to(stream), self.programs

        def launch(slots: int, *arguments: Any) -> None:
            run(programs(slots, arguments), *arguments)

        return launch

    def programs(self, slots: int, arguments: tuple[Any, ...]) -> int:
        """The number of programs of a launch that is about to be, which the hook is told of.

        Raises:
            ValueError: they are more than one launch can have.
        """
        programs = slots * self.blocks
        if programs > MAX_PROGRAMS:
            raise ValueError(
                f"{programs} programs are more than the {MAX_PROGRAMS} of one launch: cut the batch into parts"
            )
        if self.hook is not None:
            self.hook(self.variant, slots, arguments, self.flags)
        return programs


class Call(NamedTuple):
    """The contiguous, aligned inputs of one call, [B, T, H, d], and the kernels that they go through."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    b: Tensor
    w: Tensor
    scale: float
    kernels: KernelSet

    @property
    def H(self) -> int:
        """The number of heads."""
        return self.q.shape[2]
