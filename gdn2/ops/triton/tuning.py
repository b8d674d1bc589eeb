"""The tile of a kernel: the table's default, or what a measurement on this GPU found better.

Tiles depend on head sizes, precision and GPU, never on lengths, so nothing is measured during an evaluation. Measuring
is one command, which tries the candidates of tiles.py and keeps the best that computes the same:

    python -m gdn2.ops.triton.tuning --key-dim 128 --value-dim 128 --dtype bfloat16

The result is a small JSON file for each GPU model and Triton release under $GDN2_CACHE, by default ~/.cache/gdn2.
"""

from __future__ import annotations

import argparse
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import triton

from gdn2.ops.triton.tiles import Tile, tiles_for


def tile_for(kernel: str, KP: int, VP: int, precision: str, device: torch.device) -> Tile:
    """The tuned tile if there is one for this GPU and Triton, else the default."""
    if device.type != "cuda":
        return tiles_for(kernel, KP, VP, precision)[0]
    tiles = tiles_for(kernel, KP, VP, precision, _arch(device))
    tuned = _read(cache_file(device)).get(_key(kernel, KP, VP, precision))
    return tuned if tuned in tiles else tiles[0]


def cache_file(device: torch.device) -> Path:
    """Where tuned tiles of this GPU model are kept."""
    folder = Path(os.environ.get("GDN2_CACHE") or Path.home() / ".cache" / "gdn2")
    name = torch.cuda.get_device_name(device).replace(" ", "-").replace("/", "-")
    return folder / "tiles" / f"{name}-triton-{triton.__version__}.json"


def tune(K: int, V: int, dtype: torch.dtype, *, heads: int = 16, tokens: int = 8192) -> dict[str, tuple[Tile, float]]:
    """Measure every candidate of every kernel; returns the best of each with its milliseconds, and writes the cache."""
    from gdn2.ops.triton.launch import Launcher
    from gdn2.ops.triton.plan import KERNELS

    found: dict[str, tuple[Tile, float]] = {}
    device = torch.device("cuda", torch.cuda.current_device())
    for kernel, (plan, slots, arguments, flags) in _launches(K, V, dtype, heads, tokens).items():
        tiles = tiles_for(kernel, plan.KP, plan.VP, plan.precision, _arch(device))
        for tile in tiles if len(tiles) > 1 else []:
            launcher = Launcher(KERNELS[kernel], plan.constants(kernel, tile) | flags, tile)
            grid = (slots * plan.blocks(kernel, tile), 1, 1)
            ms = triton.testing.do_bench(lambda l=launcher, g=grid, a=arguments: l(g, *a), quantiles=[0.5])
            if kernel not in found or ms < found[kernel][1]:
                found[kernel] = (tile, ms)
    file = cache_file(device)
    kept = _read(file) | {_key(name, plan.KP, plan.VP, plan.precision): tile for name, (tile, _) in found.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(file)
    _read.cache_clear()
    return found


def _launches(K: int, V: int, dtype: torch.dtype, heads: int, tokens: int) -> dict[str, tuple[Any, ...]]:
    """The last launch of every kernel in a forward and backward pass."""
    from gdn2.ops.triton.operator import triton_gated_delta_rule_2
    from gdn2.ops.triton.plan import Plan

    seen: dict[str, tuple[Any, ...]] = {}
    launch = Plan.launch

    def recorded(self: Plan, name: str, slots: int, *arguments: Any, **flags: bool) -> None:
        seen[name] = (self, slots, arguments, flags)
        launch(self, name, slots, *arguments, **flags)

    q, k, b = (torch.nn.functional.normalize(torch.randn(1, tokens, heads, K), dim=-1).cuda().to(dtype) for _ in "qkb")
    v, w = (torch.rand(1, tokens, heads, V).cuda().to(dtype) for _ in "vw")
    g = -0.1 * torch.rand(1, tokens, heads, K).cuda()
    try:
        Plan.launch = recorded  # type: ignore[method-assign]
        q, k, v, g, b, w = (x.requires_grad_() for x in (q, k, v, g, b, w))
        o, _ = triton_gated_delta_rule_2(q, k, v, g, b, w, K**-0.5)
        o.sum().backward()
    finally:
        Plan.launch = launch  # type: ignore[method-assign]
    return seen


@lru_cache(maxsize=16)
def _read(file: Path) -> dict[str, Tile]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=16)
def _arch(device: torch.device) -> int:
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


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
