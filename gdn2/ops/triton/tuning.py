"""Measure the candidates of tiles.py and keep the fastest of those that compute what the default computes:

    python -m gdn2.ops.triton.tuning --key-dim 128 --value-dim 128 --dtype bfloat16

Where they are kept and how they are read: choice.py.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import triton
from triton.runtime.errors import OutOfResources

from gdn2.ops.triton import choice, chunkwise
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.operator import triton_gated_delta_rule_2
from gdn2.ops.triton.plan import KERNELS, Plan, plan_of
from gdn2.ops.triton.tiles import Tile, tiles_for

SAME = {"bf16": 2e-2, "tf32": 6e-3, "tf32x3": 1e-5}  # relative L2 between two tiles; a wrong kernel is off by 1e-1
CHECKED_TOKENS, CHECKED_HEADS = 150, 2
DECODED = 32  # sequences of the decode step that is measured
BATCH = 8  # sequences of the same tokens, for the kernel that has many

log = logging.getLogger("gdn2")


def tune(
    K: int,
    V: int,
    dtype: torch.dtype,
    *,
    heads: int = 16,
    tokens: int = 8192,
    device: torch.device | None = None,
    timer: Callable[[Callable[[], None]], float] | None = None,
) -> dict[str, tuple[Tile, float]]:
    """Measure every candidate of every kernel that has several; returns the best of each with its milliseconds, and
    writes the cache.

    A candidate that the chip has no room for, or that computes something else than the default, is passed over with a
    warning. Kernels that run for strong decay only have one candidate, and are not measured.

    Args:
        timer: milliseconds of a call, the median of `triton.testing.do_bench` by default.
    """
    found: dict[str, tuple[Tile, float]] = {}
    device = device or torch.device("cuda", torch.cuda.current_device())
    timer = timer or _median_ms
    launches = _launches(*_inputs(K, V, dtype, heads, tokens, device))
    for kernel, (plan, slots, arguments, flags) in launches.items():
        tiles = tiles_for(kernel, plan.KP, plan.VP, plan.precision, choice.architecture(device))
        times: list[tuple[float, int]] = []
        for i, tile in enumerate(tiles if len(tiles) > 1 else []):
            launcher = Launcher(KERNELS[kernel], plan.constants(kernel, tile) | flags, tile)
            grid = (slots * plan.blocks(kernel, tile), 1, 1)
            try:
                times.append((timer(lambda l=launcher, g=grid, a=arguments: l(g, *a)), i))  # type: ignore[misc]
            except OutOfResources as error:
                log.warning("%s with %s does not run on this GPU: %s", kernel, tile, error)
        for ms, i in sorted(times):
            if i == 0 or _computes_the_same(kernel, tiles[i], K, V, dtype, device):
                found[kernel] = (tiles[i], ms)
                break
            log.warning("%s with %s computes something else than with %s: passed over", kernel, tiles[i], tiles[0])
    choice.write(
        choice.cache_file(device),
        {choice.key_of(name, plan.KP, plan.VP, plan.precision): tile for name, (tile, _) in found.items()},
    )
    return found


def _median_ms(run: Callable[[], None]) -> float:
    return float(triton.testing.do_bench(run, quantiles=[0.5]))


def _inputs(K: int, V: int, dtype: torch.dtype, heads: int, tokens: int, device: torch.device) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = {"q": K, "k": K, "v": V, "g": K, "b": K, "w": V}
    q, k, v, g, b, w = (torch.rand(1, tokens, heads, d, generator=rng) - 0.5 for d in shapes.values())
    inputs = [*(torch.nn.functional.normalize(x, dim=-1) for x in (q, k)), v, -0.1 * (g + 0.5), b + 0.5, w + 0.5]
    return [x.to(device, torch.float32 if i == 3 else dtype) for i, x in enumerate(inputs)]


def _results(inputs: list[torch.Tensor], decoded: int = 8) -> list[torch.Tensor]:
    """Outputs, the last state and all gradients of a call, then outputs and states of `decoded` steps from them."""
    scale = inputs[0].shape[-1] ** -0.5
    q, k, v, g, b, w = leaves = [x.detach().requires_grad_() for x in inputs]
    o, last = triton_gated_delta_rule_2(q, k, v, g, b, w, scale)
    (o.float().square().sum() + last.square().sum()).backward()
    with torch.no_grad():
        q, k, v, g, b, w = (x[0, :decoded, None] for x in inputs)  # the tokens of one sequence as steps of many
        step = triton_gated_delta_rule_2(q, k, v, g, b, w, scale, last.expand(decoded, -1, -1, -1))
    return [o.detach(), last.detach(), *[x.grad for x in leaves if x.grad is not None], *step]


def _launches(*inputs: torch.Tensor) -> dict[str, tuple[Any, ...]]:
    """The last launch of every kernel: in a forward and backward pass, a decode step and a pass over a batch."""
    seen: dict[str, tuple[Any, ...]] = {}
    launch = Plan.launch

    def recorded(self: Plan, name: str, slots: int, *arguments: Any, **flags: bool) -> None:
        seen[name] = (self, slots, arguments, flags)
        launch(self, name, slots, *arguments, **flags)

    try:
        Plan.launch = recorded  # type: ignore[method-assign]
        _results(list(inputs), DECODED)
        rows = inputs[0].shape[1] // BATCH * BATCH
        with torch.no_grad(), _as_a_batch():
            q, k, v, g, b, w = (x[:, :rows].reshape(BATCH, -1, *x.shape[2:]) for x in inputs)
            triton_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5)
    finally:
        Plan.launch = launch  # type: ignore[method-assign]
    return seen


@contextmanager
def _as_a_batch() -> Iterator[None]:
    """Calls inside take the scan of many sequences, however few they have."""
    few, chunkwise.FEW_PROGRAMS = chunkwise.FEW_PROGRAMS, 0
    try:
        yield
    finally:
        chunkwise.FEW_PROGRAMS = few


def _computes_the_same(kernel: str, tile: Tile, K: int, V: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether outputs, state and gradients with this tile are those with the default, but for rounding."""
    inputs = _inputs(K, V, dtype, CHECKED_HEADS, CHECKED_TOKENS, device)
    tolerance, choose = SAME[plan_of(*inputs).precision], Plan.tile
    results = []
    try:
        for chosen in (None, tile):

            def forced(self: Plan, name: str, chosen: Tile | None = chosen) -> Tile:
                default = tiles_for(name, self.KP, self.VP, self.precision, choice.architecture(device))[0]
                return chosen if chosen is not None and name == kernel else default

            Plan.tile = forced  # type: ignore[method-assign]
            plan_of(*inputs).launchers.clear()
            with _as_a_batch() if kernel == "scan_output_wide" else nullcontext():
                results.append(_results(inputs))
    finally:
        Plan.tile = choose  # type: ignore[method-assign]
        plan_of(*inputs).launchers.clear()
    return all(float((a - e).float().norm() / e.float().norm()) <= tolerance for e, a in zip(*results, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key-dim", type=int, default=128)
    parser.add_argument("--value-dim", type=int, default=128)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("tuning measures on a GPU, and there is none here")
    found = tune(arguments.key_dim, arguments.value_dim, getattr(torch, arguments.dtype))
    for kernel, (tile, ms) in found.items():
        print(f"{kernel:<24} {1000 * ms:8.1f} us  {tile}")
    print(f"kept in {choice.cache_file(torch.device('cuda', torch.cuda.current_device()))}")


if __name__ == "__main__":
    main()
