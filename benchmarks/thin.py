"""Products of a few rows with the weights of the 1.3B presets: our kernel, tile by tile, beside PyTorch's products.

    python benchmarks/thin.py [--shapes NAME ...] [--rows 1 2 4 8 16 32] [--all-tiles] [--json FILE]
                              [--compare OLD.json [--threshold 0.1]]

A measurement is a CUDA graph of many calls, each with weights of its own, 512 MiB in all, so that no cache holds them
and the distance from kernel to kernel is that of a decoding step. Times are microseconds a call, medians over replays;
GB/s counts the weights' bytes, once. "separate" is `torch.nn.functional.linear` for each matrix with what follows it,
"joint" one such call for a matrix that has the rows of all of them. Every tile is measured with the first number of
rows; with the others the one that ships and the best one (`--all-tiles`: all). "error" is the relative L2 to float64 of
the tile that ships, "alone" whether each row's bits are those that it has alone. Without a GPU tiny shapes show that it
works.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import command_line  # noqa: E402
import earlier  # noqa: E402

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
POOL = (512 << 20) if CUDA else 1 << 16  # bytes of weights
REPLAYS = 15
COMPILERS = 8  # threads
DTYPE = torch.bfloat16 if CUDA else torch.float16  # Triton's interpreter makes no products of bfloat16
Row = dict[str, Any]
Call = Callable[[Any], Any]  # of the weights


@dataclass(frozen=True)
class Shape:
    """Matrices of one x: columns, rows of each, which of them a sigmoid follows, and whether they are SwiGLU's pair."""

    columns: int
    sizes: tuple[int, ...]
    sigmoids: tuple[bool, ...] | None = None
    paired: bool = False

    @property
    def bytes(self) -> int:
        return 2 * self.columns * sum(self.sizes)


SHAPES = {
    "2048 x 2048": Shape(2048, (2048,)),
    "q k v b w f g": Shape(2304, (2048,) * 5 + (128, 128), (False,) * 3 + (True,) * 2 + (False,) * 2),
    "gate up": Shape(2304, (6208, 6208), paired=True),
    "down": Shape(6208, (2304,)),
    "low rank": Shape(128, (2048,)),
}
TINY = {"tiny": Shape(64, (48, 8), (True, False)), "tiny pair": Shape(64, (24, 24), paired=True)}


def tiles(shape: Shape) -> dict[str, dict[str, int]]:
    """Those that are worth a measurement, the one that ships first."""
    from gdn2.ops.triton.thin import thin_tile

    found, twice = {"ships": thin_tile(2, paired=shape.paired)}, 2 if shape.paired else 1
    for BN, BK, split, warps, stages in (
        (8, 256, 4, 4, 4), (8, 256, 4, 4, 6), (16, 256, 4, 4, 3), (16, 256, 4, 4, 6), (32, 256, 4, 4, 3),
        (16, 128, 2, 2, 6), (8, 512, 4, 4, 4), (16, 512, 8, 8, 3),
    ):  # fmt: skip
        name = f"BN {BN * twice} BK {BK} split {split} stages {stages}"
        found[name] = {"BN": BN * twice, "BK": BK, "SPLIT": split, "num_warps": warps, "num_stages": stages}
    return found


def ours(shape: Shape, x: Tensor, tile: dict[str, int]) -> Call:
    """Our kernel on a list of weights."""
    from gdn2.ops.triton.thin import products, swiglu_product

    if shape.paired:
        return lambda weights: [swiglu_product(x, weights[0], weights[1], tile=tile)]
    return lambda weights: products(x, weights, sigmoids=shape.sigmoids, tile=tile)


def separate(shape: Shape, x: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """PyTorch's products, one after the other."""
    parts = [linear(x, weight) for weight in weights]
    return after(shape, parts)


def after(shape: Shape, parts: Sequence[Tensor]) -> list[Tensor]:
    """What follows the products: the sigmoid, or SwiGLU's product."""
    if shape.paired:
        return [silu(parts[0]) * parts[1]]
    opens = shape.sigmoids or (False,) * len(parts)
    return [part.sigmoid() if opened else part for part, opened in zip(parts, opens, strict=True)]


class Bench:
    """One shape with so many rows, over a pool of weights."""

    def __init__(self, shape: Shape, rows: int, pool: Tensor) -> None:
        self.shape, self.x = shape, torch.randn(rows, shape.columns, device=DEVICE, dtype=DTYPE)
        each = shape.columns * sum(shape.sizes)
        copies = max(1, min(pool.numel() // each, 400))
        self.joint = [pool[i * each : (i + 1) * each].view(-1, shape.columns) for i in range(copies)]
        self.weights = [list(joint.split(shape.sizes)) for joint in self.joint]

    def microseconds(self, call: Call, weights: Sequence[Any]) -> float:
        """Of one of the calls for all weights."""

        def run() -> None:
            for each in weights:
                call(each)

        if not CUDA:
            started = time.perf_counter()
            run()
            return 1e6 * (time.perf_counter() - started) / len(weights)
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        graph.replay()
        return 1e3 * statistics.median(milliseconds(graph.replay) for _ in range(REPLAYS)) / len(weights)

    def row(self, call: Call, weights: Sequence[Any]) -> Row:
        try:
            taken = self.microseconds(call, weights)
        except Exception as error:  # a tile that does not fit the GPU: the others are measured
            return {"fails": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
        return {"us": taken, "GB/s": self.shape.bytes / taken / 1e3}

    def rows(self, names: Sequence[str] | None) -> list[tuple[str, Row]]:
        """PyTorch's figures and those of our tiles, all or those of the given names."""
        x, shape = self.x, self.shape
        found = [("separate", self.row(partial(separate, shape, x), self.weights))]
        if len(shape.sizes) > 1:
            found.append(("joint", self.row(lambda joint: linear(x, joint), self.joint)))
        for name, tile in tiles(shape).items():
            if names is None or name in names:
                found.append((name, self.row(ours(shape, x, tile), self.weights)))
                if name == "ships":
                    found[-1][1].update(self.checked(tile))
        return found

    def compile(self, names: Sequence[str] | None) -> None:
        """Call each tile once, several at a time, since compiling takes longer than measuring."""

        def call(tile: dict[str, int]) -> None:
            with contextlib.suppress(Exception):  # `row` says what fails
                ours(self.shape, self.x, tile)(self.weights[0])

        found = tiles(self.shape).items()
        with ThreadPoolExecutor(COMPILERS) as threads:
            list(threads.map(call, (tile for name, tile in found if names is None or name in names)))

    def checked(self, tile: dict[str, int]) -> Row:
        """How near a result is to float64, and whether rows alone give the same bits."""
        weights = self.weights[0]
        found = ours(self.shape, self.x, tile)(weights)
        exact = after(self.shape, [self.x.double() @ weight.double().T for weight in weights])
        error = max(float((y - e).norm() / e.norm()) for y, e in zip(found, exact, strict=True))
        single = [ours(self.shape, row, tile)(weights) for row in self.x.split(1)]
        same = all(torch.equal(torch.cat(parts), y) for parts, y in zip(zip(*single, strict=True), found, strict=True))
        return {"error": error, "alone": same}


def milliseconds(run: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def measure(args: argparse.Namespace) -> list[Row]:
    """Every shape with every number of rows; prints the figures as they come."""
    pool = torch.randn(POOL // 2, device=DEVICE, dtype=DTYPE) * 0.02
    found: list[Row] = []
    for name in args.shapes:
        names: list[str] | None = None
        for rows in args.rows:
            bench = Bench(args.known[name], rows, pool)
            if CUDA:
                bench.compile(names)
            measured = bench.rows(names)
            best = min((row["us"], how) for how, row in measured if "us" in row and how not in ("separate", "joint"))
            for how, row in measured:
                found.append({"shape": name, "rows": rows, "how": how, **row})
                print(line(found[-1], best=how == best[1]), flush=True)
            names = names or (None if args.all_tiles else ["ships", best[1]])
    return found


def line(row: Row, *, best: bool) -> str:
    start = f"{row['shape']:14} rows {row['rows']:2}  {row['how']:32}"
    if "fails" in row:
        return f"{start} {row['fails']}"
    checks = f"  error {row['error']:.1e}, {'same' if row['alone'] else 'OTHER'} bits alone" if "error" in row else ""
    return f"{start} {row['us']:8.2f} us {row['GB/s']:7.0f} GB/s{'  *' if best else '   '}{checks}"


def machine() -> dict[str, Any]:
    import triton

    gpu = torch.cuda.get_device_name() if CUDA else "none: says nothing of speed"
    return {"gpu": gpu, "torch": torch.__version__, "triton": triton.__version__, "date": time.strftime("%Y-%m-%d")}


@torch.inference_mode()
def main() -> None:
    parser = command_line.parser(__doc__)
    known = SHAPES if CUDA else TINY
    parser.add_argument("--shapes", nargs="+", choices=list(known), default=list(known), metavar="NAME")
    parser.add_argument("--rows", type=command_line.positive, nargs="+", default=[1, 2, 4, 8, 16, 32] if CUDA else [2])
    parser.add_argument("--all-tiles", action="store_true", help="every tile with every number of rows")
    parser.add_argument("--json", type=command_line.new_file)
    parser.add_argument("--compare", type=command_line.there, metavar="OLD.json")
    parser.add_argument("--threshold", type=float, default=0.1)
    args = parser.parse_args()
    args.known = known
    record = {"machine": machine(), "rows": measure(args)}
    if args.json:
        args.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if args.compare:
        slower = earlier.compare(
            record, args.compare, args.threshold, lambda row: f"{row['shape']} rows {row['rows']} {row['how']}",
            lambda key: False if key == "us" else None,
        )  # fmt: skip
        if slower:
            sys.exit("\n".join(slower))


if __name__ == "__main__":
    command_line.answer(main)
