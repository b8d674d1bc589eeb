"""Measures the candidate tiles on a GPU and keeps the fastest of those that compute what the default computes.

    python -m gdn2.ops.triton.tuning --key-dim 128 --value-dim 128 --dtype bfloat16

choice.py says where the tiles are kept and how they are read. Nothing of the kernels' code is replaced while this runs:
the operator takes kernel sets whose hooks record launches or choose tiles.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import triton
from triton.runtime.errors import OutOfResources

from basis.arguments import Parser, mistakes_end
from basis.errors import UserError
from gdn2.ops.triton import choice
from gdn2.ops.triton.kernel_set import FEW_PROGRAMS, KERNELS, KernelSet, TileChoice, kernels_for
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.operator import triton_gated_delta_rule_2
from gdn2.ops.triton.tiles import Tile, tiles_for
from gdn2.ops.triton.variants import Variant

SAME = {"bf16": 2e-2, "tf32": 6e-3, "tf32x3": 1e-5}  # relative L2 between two tiles; a wrong kernel is off by 1e-1
CHECKED_TOKENS, CHECKED_HEADS = 150, 2
DECODED = 32  # sequences of the decode step that is measured
BATCH = 8  # sequences of the same tokens, for the variant of the scan that has many

log = logging.getLogger("gdn2")


class Launch(NamedTuple):
    """One launch as it was recorded: the arguments of `KernelSet.launch`, and the set."""

    kernels: KernelSet
    slots: int
    arguments: tuple[Any, ...]
    flags: dict[str, bool]


def tune(
    K: int,
    V: int,
    dtype: torch.dtype,
    *,
    heads: int = 16,
    tokens: int = 8192,
    device: torch.device | None = None,
    timer: Callable[[Callable[[], None]], float] | None = None,
) -> dict[Variant, tuple[Tile, float]]:
    """Measure every candidate of every variant that has several, and write the fastest to the user's file.

    A candidate that the chip has no room for, or that computes something else than the default, is passed over with a
    warning. Variants that run for strong decay only have one candidate, and are not measured.

    Args:
        K: the key dim d_k.
        V: the value dim d_v.
        dtype: of q, k, v, b and w.
        heads: of the call that is measured.
        tokens: of the call that is measured.
        device: the GPU; the current one by default.
        timer: milliseconds of a call; the median of `triton.testing.do_bench` by default.

    Returns:
        The best tile of each variant that was measured, with its milliseconds.
    """
    found: dict[Variant, tuple[Tile, float]] = {}
    device = device or torch.device("cuda", torch.cuda.current_device())
    inputs = _inputs(K, V, dtype, heads, tokens, device)
    kernels = kernels_for(*inputs)
    for variant, launch in _launches(*inputs).items():
        tiles = tiles_for(variant, kernels.KP, kernels.VP, kernels.precision, choice.architecture(device))
        times = _times(variant, launch, tiles, timer or _median_ms) if len(tiles) > 1 else []
        for ms, i in sorted(times):
            if i == 0 or _computes_the_same(variant, tiles[i], K, V, dtype, device):
                found[variant] = (tiles[i], ms)
                break
            log.warning("%s with %s computes something else than with %s: passed over", variant, tiles[i], tiles[0])
    choice.write(
        choice.cache_file(device),
        {
            choice.key_of(variant, kernels.KP, kernels.VP, kernels.precision): tile
            for variant, (tile, _) in found.items()
        },
    )
    return found


def _times(
    variant: Variant, launch: Launch, tiles: list[Tile], timer: Callable[[Callable[[], None]], float]
) -> list[tuple[float, int]]:
    """Milliseconds and index of each tile that runs on this GPU."""
    times = []
    kernels, slots, arguments, flags = launch
    for i, tile in enumerate(tiles):
        launcher = Launcher(KERNELS[variant.kernel], kernels.constants(variant, tile) | flags, tile)
        grid = (slots * kernels.blocks(variant, tile), 1, 1)
        try:
            times.append((timer(partial(launcher, grid, *arguments)), i))
        except OutOfResources as error:
            log.warning("%s with %s does not run on this GPU: %s", variant, tile, error)
    return times


def _median_ms(run: Callable[[], None]) -> float:
    return float(triton.testing.do_bench(run, quantiles=[0.5]))


def _inputs(K: int, V: int, dtype: torch.dtype, heads: int, tokens: int, device: torch.device) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = {"q": K, "k": K, "v": V, "g": K, "b": K, "w": V}
    q, k, v, g, b, w = (torch.rand(1, tokens, heads, d, generator=rng) - 0.5 for d in shapes.values())
    inputs = [*(torch.nn.functional.normalize(x, dim=-1) for x in (q, k)), v, -0.1 * (g + 0.5), b + 0.5, w + 0.5]
    return [x.to(device, torch.float32 if i == 3 else dtype) for i, x in enumerate(inputs)]


def _results(inputs: list[torch.Tensor], kernels: KernelSet, decoded: int = 8) -> list[torch.Tensor]:
    """Outputs, the last state and all gradients of a call, then outputs and states of `decoded` steps after it."""
    scale = inputs[0].shape[-1] ** -0.5
    q, k, v, g, b, w = leaves = [x.detach().requires_grad_() for x in inputs]
    o, last = triton_gated_delta_rule_2(q, k, v, g, b, w, scale, kernels=kernels)
    torch.autograd.backward(o.float().square().sum() + last.square().sum())
    with torch.no_grad():
        q, k, v, g, b, w = (x[0, :decoded, None] for x in inputs)  # the tokens of one sequence as steps of many
        step = triton_gated_delta_rule_2(q, k, v, g, b, w, scale, last.expand(decoded, -1, -1, -1), kernels=kernels)
    return [o.detach(), last.detach(), *[x.grad for x in leaves if x.grad is not None], *step]


def _launches(*inputs: torch.Tensor) -> dict[Variant, Launch]:
    """The last launch of every variant: in a forward and backward pass, a decode step and a pass over a batch."""
    seen: dict[Variant, Launch] = {}

    def recording(few_programs: int) -> KernelSet:
        def record(variant: Variant, slots: int, arguments: tuple[Any, ...], flags: dict[str, bool]) -> None:
            seen[variant] = Launch(kernels, slots, arguments, flags)

        usual = kernels_for(*inputs)
        kernels = KernelSet(
            usual.K, usual.V, usual.precision, usual.device, few_programs=few_programs, on_launch=record
        )
        return kernels

    _results(list(inputs), recording(FEW_PROGRAMS), DECODED)
    rows = inputs[0].shape[1] // BATCH * BATCH
    with torch.no_grad():
        q, k, v, g, b, w = (x[:, :rows].reshape(BATCH, -1, *x.shape[2:]) for x in inputs)
        triton_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5, kernels=recording(0))
    return seen


def _computes_the_same(variant: Variant, tile: Tile, K: int, V: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether outputs, state and gradients with this tile are those with the default, except for rounding."""
    inputs = _inputs(K, V, dtype, CHECKED_HEADS, CHECKED_TOKENS, device)
    precision = kernels_for(*inputs).precision
    few_programs = 0 if variant.many_programs else FEW_PROGRAMS
    expected, found = (
        _results(inputs, KernelSet(K, V, precision, device, choose_tile=choose, few_programs=few_programs))
        for choose in (_default_tile, _with_tile(variant, tile))
    )
    differences = (float((a - e).float().norm() / e.float().norm()) for e, a in zip(expected, found, strict=True))
    return all(difference <= SAME[precision] for difference in differences)


def _default_tile(variant: Variant, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
    return tiles_for(variant, KP, VP, precision, choice.architecture(device))[0]


def _with_tile(changed: Variant, tile: Tile) -> TileChoice:
    """A choice that gives one variant this tile, and all others their default."""

    def choose(variant: Variant, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
        return tile if variant == changed else _default_tile(variant, KP, VP, precision, device)

    return choose


def main() -> None:
    """Tune for the head size and dtype of the command line."""
    parser = Parser(
        prog="python -m gdn2.ops.triton.tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--key-dim", type=int, default=128)
    parser.add_argument("--value-dim", type=int, default=128)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    with mistakes_end():
        arguments = parser.parse_args()
        if not torch.cuda.is_available():
            raise UserError("tuning measures on a GPU, and there is none here")
    found = tune(arguments.key_dim, arguments.value_dim, getattr(torch, arguments.dtype))
    for variant, (tile, ms) in found.items():
        print(f"{variant.name:<24} {1000 * ms:8.1f} us  {tile}")
    print(f"kept in {choice.cache_file(torch.device('cuda', torch.cuda.current_device()))}")


if __name__ == "__main__":
    main()
