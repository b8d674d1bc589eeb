"""The tile of a kernel: the table's default, or what a measurement on this GPU found better.

Tiles depend on head sizes, precision and GPU, never on lengths, so nothing is measured during an evaluation. Measuring
is one command, which tries the candidates of tiles.py and keeps the fastest of those that compute what the default
computes:

    python -m gdn2.ops.triton.tuning --key-dim 128 --value-dim 128 --dtype bfloat16

The result is a small JSON file for each GPU model and Triton release under $GDN2_CACHE, by default ~/.cache/gdn2. A
file that cannot be read, and what is no candidate of a known kernel, is left aside with a warning.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import triton
from triton.runtime.errors import OutOfResources

from gdn2.ops.triton.tiles import CANDIDATES, Tile, tiles_for

SAME = {"bf16": 2e-2, "tf32": 6e-3, "tf32x3": 1e-5}  # relative L2 between two tiles; a wrong kernel is off by 1e-1
CHECKED_TOKENS, CHECKED_HEADS = 150, 2
DECODED = 32  # sequences of the decode step that is measured

log = logging.getLogger("gdn2")


def tile_for(kernel: str, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
    """The tuned tile if there is one for this GPU and Triton, else the default."""
    if device.type != "cuda":
        return tiles_for(kernel, KP, VP, precision)[0]
    tiles = tiles_for(kernel, KP, VP, precision, _arch(device))
    file, key = cache_file(device), _key(kernel, KP, VP, precision)
    tuned = _read(file).get(key, tiles[0])
    if tuned not in tiles:
        log.warning("%s: %s is no candidate of %s; the default is used. Run the tuning again.", file, tuned, key)
    return tuned if tuned in tiles else tiles[0]


def cache_file(device: torch.device) -> Path:
    """Where tuned tiles of this GPU model are kept."""
    folder = Path(os.environ.get("GDN2_CACHE") or Path.home() / ".cache" / "gdn2")
    name = _gpu_name(device).replace(" ", "-").replace("/", "-")
    return folder / "tiles" / f"{name}-triton-{triton.__version__}.json"


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
    from gdn2.ops.triton.launch import Launcher
    from gdn2.ops.triton.plan import KERNELS

    found: dict[str, tuple[Tile, float]] = {}
    device = device or torch.device("cuda", torch.cuda.current_device())
    timer = timer or _median_ms
    launches = _launches(*_inputs(K, V, dtype, heads, tokens, device))
    for kernel, (plan, slots, arguments, flags) in launches.items():
        tiles = tiles_for(kernel, plan.KP, plan.VP, plan.precision, _arch(device))
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
    _write(
        cache_file(device), {_key(name, plan.KP, plan.VP, plan.precision): tile for name, (tile, _) in found.items()}
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
    from gdn2.ops.triton.operator import triton_gated_delta_rule_2

    scale = inputs[0].shape[-1] ** -0.5
    q, k, v, g, b, w = leaves = [x.detach().requires_grad_() for x in inputs]
    o, last = triton_gated_delta_rule_2(q, k, v, g, b, w, scale)
    (o.float().square().sum() + last.square().sum()).backward()
    with torch.no_grad():
        q, k, v, g, b, w = (x[0, :decoded, None] for x in inputs)  # the tokens of one sequence as steps of many
        step = triton_gated_delta_rule_2(q, k, v, g, b, w, scale, last.expand(decoded, -1, -1, -1))
    return [o.detach(), last.detach(), *[x.grad for x in leaves if x.grad is not None], *step]


def _launches(*inputs: torch.Tensor) -> dict[str, tuple[Any, ...]]:
    """The last launch of every kernel in a forward and backward pass and a decode step."""
    from gdn2.ops.triton.plan import Plan

    seen: dict[str, tuple[Any, ...]] = {}
    launch = Plan.launch

    def recorded(self: Plan, name: str, slots: int, *arguments: Any, **flags: bool) -> None:
        seen[name] = (self, slots, arguments, flags)
        launch(self, name, slots, *arguments, **flags)

    try:
        Plan.launch = recorded  # type: ignore[method-assign]
        _results(list(inputs), DECODED)
    finally:
        Plan.launch = launch  # type: ignore[method-assign]
    return seen


def _computes_the_same(kernel: str, tile: Tile, K: int, V: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether outputs, state and gradients with this tile are those with the default, but for rounding."""
    from gdn2.ops.triton.plan import Plan, plan_of

    inputs = _inputs(K, V, dtype, CHECKED_HEADS, CHECKED_TOKENS, device)
    tolerance, choose = SAME[plan_of(*inputs).precision], Plan.tile
    results = []
    try:
        for chosen in (None, tile):

            def forced(self: Plan, name: str, chosen: Tile | None = chosen) -> Tile:
                default = tiles_for(name, self.KP, self.VP, self.precision, _arch(device))[0]
                return chosen if chosen is not None and name == kernel else default

            Plan.tile = forced  # type: ignore[method-assign]
            plan_of(*inputs).launchers.clear()
            results.append(_results(inputs))
    finally:
        Plan.tile = choose  # type: ignore[method-assign]
        plan_of(*inputs).launchers.clear()
    return all(float((a - e).float().norm() / e.float().norm()) <= tolerance for e, a in zip(*results, strict=True))


@lru_cache(maxsize=16)
def _read(file: Path) -> dict[str, Tile]:
    if not file.exists():
        return {}
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise ValueError(f"a {type(kept).__name__} where an object should be")
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s): default tiles are used. Remove it or run the tuning again.", file, error)
        return {}
    unknown = [key for key in kept if str(key).split(" ")[0] not in CANDIDATES]
    if unknown:
        log.warning("%s names unknown kernels, left aside: %s", file, ", ".join(unknown))
    return {key: tile for key, tile in kept.items() if key not in unknown}


def _write(file: Path, tiles: dict[str, Tile]) -> None:
    """Add to the file, whole or not at all."""
    kept = _read(file) | tiles
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(file)
    _read.cache_clear()


@lru_cache(maxsize=16)
def _arch(device: torch.device) -> int:
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


@lru_cache(maxsize=16)
def _gpu_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def _key(kernel: str, KP: int, VP: int, precision: str) -> str:
    return f"{kernel} {KP}x{VP} {precision}"


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
    print(f"kept in {cache_file(torch.device('cuda', torch.cuda.current_device()))}")


if __name__ == "__main__":
    main()
