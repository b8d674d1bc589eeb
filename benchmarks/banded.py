"""Attention of a run of tokens: our kernels, tile by tile, beside PyTorch's functions.

    python benchmarks/banded.py [--json FILE] [--without-flex] [--heads 18] [--kv-heads 18] [--head-dim 128]

First every candidate of every tile (`gdn2/ops/triton/band_tiles.py`) on one shape, each checked against the default's
result: "forward", and the backward pass with this tile for one of its two kernels and the default for the other. Then
whole calls, forward and forward+backward: "ours"; "masked" (PyTorch's function in pieces with a mask, what runs where
there are no kernels); "causal" (PyTorch's function over all tokens before, no window); "flex" (its flex_attention,
compiled). Medians in ms, and TFLOP/s of the pairs that a window leaves. The defaults are the heads of swa_gdn2_1.3B in
bfloat16. About a minute on an H100, half of it compilers; without a GPU a tiny shape in Triton's interpreter shows that
it works. Exits with 1 if a result is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"

import command_line  # noqa: E402
import triton  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from basis import children  # noqa: E402
from gdn2.mixers.runs import attend_window  # noqa: E402
from gdn2.ops.backends import BACKEND_VARIABLE  # noqa: E402
from gdn2.ops.triton.band_tiles import FORWARD, OF_KEYS, OF_QUERIES, Tile, candidates  # noqa: E402
from gdn2.ops.triton.banded import band_forward  # noqa: E402
from gdn2.ops.triton.banded_backward import band_gradients  # noqa: E402
from gdn2.ops.triton.choice import architecture  # noqa: E402
from gdn2.padding import Positions  # noqa: E402

DEVICE, DTYPE = ("cuda", torch.bfloat16) if CUDA else ("cpu", torch.float32)
SHAPES = ((4, 4096, 2048), (1, 16384, 2048), (8, 2048, 2048)) if CUDA else ((1, 40, 16),)  # B, T, window
SEGMENT = (1, 8192, 2048) if CUDA else (1, 40, 16)  # behind a full ring
TOLERANCE = 2e-2 if CUDA else 1e-5
WORKERS = 8
Row = dict[str, Any]
Heads = tuple[int, int, int]  # query heads, key heads, channels


def main() -> None:
    """Measure, print, and write what the command line asks for."""
    arguments = _arguments()
    heads: Heads = (arguments.heads, arguments.kv_heads, arguments.head_dim) if CUDA else (2, 1, 16)
    started = time.perf_counter()
    if CUDA:
        _compile_all(heads)
    rows = [*tiles(heads), *(row for shape in SHAPES for row in calls(shape, heads, flex=not arguments.without_flex))]
    rows += segment(heads)
    gpu = torch.cuda.get_device_name() if CUDA else None
    record = {"gpu": gpu, "torch": torch.__version__, "triton": triton.__version__, "heads": heads, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{time.perf_counter() - started:.0f} s in all")
    wrong = [row for row in rows if not row.get("error", 0.0) < TOLERANCE]
    if wrong:
        sys.exit("\n".join(f"wrong: {row}" for row in wrong))


def _arguments() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument("--json", type=command_line.new_file, help="also write the figures to this file")
    parser.add_argument("--without-flex", action="store_true", help="leave flex_attention out")
    parser.add_argument("--heads", type=command_line.positive, default=18)
    parser.add_argument("--kv-heads", type=command_line.positive, default=18)
    parser.add_argument("--head-dim", type=command_line.positive, default=128)
    return parser.parse_args()


def tiles(heads: Heads) -> Iterator[Row]:
    """A row for each candidate of each kernel on the first shape."""
    (B, T, window), D = SHAPES[0], heads[2]
    (q, k, v), do = inputs(B, T, heads), _random(B, T, heads[0], D)
    scale = D**-0.5
    o, lse = band_forward(q, k, v, window, scale, with_lse=True)
    assert lse is not None
    back = partial(band_gradients, do, q, k, v, o, lse, window=window, scale=scale)
    expected = back()
    for kernel, tile in _jobs(D):
        if kernel == FORWARD:
            run: Callable[[], Any] = partial(band_forward, q, k, v, window, scale, with_lse=True, tile=tile)
        else:
            run = partial(back, **{kernel: tile})
        row: Row = {"shape": [B, T, window], "kernel": kernel, "tile": tile}
        try:
            row["error"] = apart(run()[0], o) if kernel == FORWARD else max(map(apart, run(), expected))
            row["ms"] = median_ms(run)
        except triton.runtime.errors.OutOfResources as error:
            row["failed"] = str(error)
        yield said(row, pairs(T, window) * B * heads[0] * D, 4 if kernel == FORWARD else 14)


def calls(shape: tuple[int, int, int], heads: Heads, *, flex: bool) -> Iterator[Row]:
    """Whole calls of one shape, forward and with gradients."""
    B, T, window = shape
    leaves, do = inputs(B, T, heads), _random(B, T, heads[0], heads[2])
    positions = Positions.after(torch.zeros(B, dtype=torch.long, device=DEVICE), T, None, fresh=True)
    ring = (leaves[1].new_zeros(B, window, *leaves[1].shape[2:]),) * 2
    windowed = partial(attend_window, ring=ring, padding=None, positions=positions, scale=None)
    ways: dict[str, Callable[..., torch.Tensor]] = {"ours": partial(_ours, window=window)}
    if window < T:
        ways["masked"] = windowed
    ways["causal"] = _causal
    if flex and CUDA:
        ways["flex"] = _flex(T, window)
    flops = pairs(T, window) * B * heads[0] * heads[2]
    with backend("chunked"):
        expected = windowed(*leaves)
    for name, way in ways.items():
        with backend("chunked" if name == "masked" else "triton"):
            row: Row = {"shape": list(shape), "what": name}
            if name != "causal" or window >= T:
                row["error"] = apart(way(*leaves), expected)
            with torch.no_grad():
                yield said({**row, "pass": "forward", "ms": median_ms(partial(way, *leaves))}, flops, 4)
            for leaf in leaves:
                leaf.requires_grad_()
            both = partial(_both, way, leaves, do)
            yield said({**row, "pass": "forward+backward", "ms": median_ms(both)}, flops, 14)
            leaves = tuple(leaf.detach() for leaf in leaves)


@torch.no_grad()
def segment(heads: Heads) -> Iterator[Row]:
    """A later segment of a prompt, behind a ring that is full and has wrapped."""
    B, T, window = SEGMENT
    q, k, v = inputs(B, T, heads)
    ring = tuple(_random(B, window, heads[1], heads[2]) for _ in range(2))
    positions = Positions.after(torch.full((B,), 3 * window + 5, device=DEVICE), T, None)
    flops, expected = T * window * B * heads[0] * heads[2], None
    for name in ("masked", "ours"):
        with backend("chunked" if name == "masked" else "triton"):
            run = partial(attend_window, q, k, v, (ring[0], ring[1]), None, positions, scale=None)
            expected = run() if expected is None else expected
            row = {"shape": list(SEGMENT), "what": name, "pass": "behind a ring", "error": apart(run(), expected)}
            yield said({**row, "ms": median_ms(run)}, flops, 4)


def _ours(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    from gdn2.ops.banded import attend

    positions = Positions.after(torch.zeros(len(q), dtype=torch.long, device=DEVICE), q.shape[1], None, fresh=True)
    return attend(q, k, v, positions, window if window < q.shape[1] else None, None)


def _causal(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    grouped = q.shape[2] != k.shape[2]
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2)


def _flex(T: int, window: int) -> Callable[..., torch.Tensor]:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(_b: Any, _h: Any, i: Any, j: Any) -> Any:
        return (j <= i) & (j > i - window)

    mask = create_block_mask(seen, None, None, T, T, device=DEVICE)
    compiled = torch.compile(flex_attention)

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        grouped = q.shape[2] != k.shape[2]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        o: torch.Tensor = compiled(q, k, v, block_mask=mask, enable_gqa=grouped)
        return o.transpose(1, 2)

    return run


def _both(way: Callable[..., torch.Tensor], leaves: tuple[torch.Tensor, ...], do: torch.Tensor) -> Any:
    return torch.autograd.grad(way(*leaves), leaves, do)


def inputs(B: int, T: int, heads: Heads) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values."""
    return tuple(_random(B, T, count, heads[2]) for count in (heads[0], heads[1], heads[1]))


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE).to(DTYPE)


def pairs(T: int, window: int) -> float:
    """How many pairs of a query and a key a window leaves of a row of T tokens."""
    full = max(T - window, 0)
    return full * window + (T - full) * (T - full + 1) / 2


def said(row: Row, pairs_channels: float, products: int) -> Row:
    """Print a row, with its rate: so many floating-point operations for each pair and channel."""
    if "ms" in row:
        row["TFLOP/s"] = round(products * pairs_channels / row["ms"] / 1e9, 1)
        row["ms"] = round(row["ms"], 4)
    if "error" in row:
        row["error"] = float(f"{row['error']:.2g}")
    print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return row


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2."""
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def median_ms(run: Callable[[], Any]) -> float:
    if CUDA:
        return float(triton.testing.do_bench(run, warmup=10, rep=40, quantiles=[0.5]))
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """What runs inside: kernels, or PyTorch's functions."""
    before = os.environ.get(BACKEND_VARIABLE)
    os.environ[BACKEND_VARIABLE] = name
    yield
    os.environ.pop(BACKEND_VARIABLE)
    if before is not None:
        os.environ[BACKEND_VARIABLE] = before


def _jobs(D: int) -> list[tuple[str, Tile]]:
    arch = architecture(torch.device(DEVICE))
    kernels = (FORWARD, OF_QUERIES, OF_KEYS)
    return [(kernel, tile) for kernel in kernels for tile in candidates(kernel, D, DTYPE.itemsize, arch)]


def _compile_all(heads: Heads) -> None:
    """Fill Triton's cache in several processes."""
    with children.pool(WORKERS) as pool:
        list(pool.map(_compile, [(heads, *job) for job in [*_jobs(heads[2]), ("causal", {}), ("ring", {})]]))


def _compile(job: tuple[Heads, str, Tile]) -> None:
    heads, kernel, tile = job
    q, k, v = inputs(1, 64, heads)
    try:
        if kernel == "ring":
            positions = Positions.after(torch.full((1,), 64, device=DEVICE), 64, None)
            band_forward(q, k, v, 32, 1.0, positions=positions, ring=(k[:, :32], v[:, :32]))
            return
        window = None if kernel == "causal" else 32
        own = {"tile": tile} if kernel == FORWARD else {}
        o, lse = band_forward(q, k, v, window, 1.0, with_lse=True, **own)  # type: ignore[arg-type]
        if kernel != FORWARD and lse is not None:
            back = {kernel: tile} if tile else {}
            band_gradients(q, q, k, v, o, lse, window=window, scale=1.0, **back)  # type: ignore[arg-type]
    except triton.runtime.errors.OutOfResources:
        pass  # said where it is measured


if __name__ == "__main__":
    command_line.answer(main)
