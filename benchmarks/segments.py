"""How long segments of the chunkwise pass should be: its time, and the host's, by the number of their tokens.

    python benchmarks/segments.py [--shapes BxTxHxd ...] [--times 2 1 0.5 ...] [--stages N ...] [--json FILE]

A row is one shape with segments of so many times the usual number of tokens (`SEGMENT_TOKEN_HEADS`), and one of the
two scans, "few" (of few sequences, 16 value columns a program) or "many", with the tile that ships or with so many
stages: a scan with fewer takes less of what a multiprocessor shares and leaves room for `prepare` beside it. Times
are medians, "host us" how long a call takes to return while the GPU is idle. Sizes that make as many segments as an
earlier one are left out. Exits with 1 if a result has other bits than that of the usual call. Without a GPU a tiny
shape runs in Triton's interpreter, to show that it works.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from functools import partial
from typing import Any

import command_line
import kernels as timing  # first: it says that Triton interprets, where there is no GPU
import torch

from basis import children
from gdn2.ops.triton.choice import tile_for
from gdn2.ops.triton.kernel_set import KernelSet, kernels_for
from gdn2.ops.triton.layout import segments_of
from gdn2.ops.triton.operator import triton_gated_delta_rule_2
from gdn2.ops.triton.tiles import Tile
from gdn2.ops.triton.variants import Variant

LENGTHS = ((1, 2048), (1, 4096), (1, 8192), (1, 16384), (1, 32768), (1, 131072), (4, 8192))
LEARNED = ((1, 8192, 128), (1, 32768, 128))  # B, T and d of calls that are timed with their gradients too
TIMES = (2.0, 1.0, 0.5, 0.25, 0.125)
SCANS = {"few": (1 << 30, 1 << 30), "many": (0, 0)}  # few_programs and few_segments that choose a scan
HOST_CALLS = 50
MOST_COMPILERS = 16


def shapes_of() -> list[timing.Shape]:
    """The shapes [B, T, H, d_k, d_v] that are measured."""
    if not timing.CUDA:
        return [(1, 140, 2, 16, 16)]
    shapes = [(B, T, 16, d, d) for d in (128, 64) for B, T in LENGTHS]
    return [*shapes, (1, 8192, 16, 256, 256)]


def kernels_of(inputs: timing.Inputs, times: float, scan: str, stages: int | None = None) -> KernelSet:
    """The kernels with segments of that size and that scan, in so many stages; None: in those that ship."""
    usual, (few_programs, few_segments) = kernels_for(*inputs), SCANS[scan]

    def tile(variant: Variant, *about: Any) -> Tile:
        chosen = tile_for(variant, *about)
        return chosen | {"num_stages": stages} if stages and variant.kernel.startswith("scan") else chosen

    return KernelSet(
        usual.K, usual.V, usual.precision, usual.device, choose_tile=tile, few_programs=few_programs,
        few_segments=few_segments, segment_times=times,
    )  # fmt: skip


def forward(inputs: timing.Inputs, kernels: KernelSet | None) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v, g, b, w = inputs
    return triton_gated_delta_rule_2(q, k, v, g, b, w, q.shape[-1] ** -0.5, kernels=kernels)


def host_us(inputs: timing.Inputs, kernels: KernelSet) -> float:
    """Microseconds until a call returns, while the GPU has nothing else to do."""
    found = []
    for _ in range(HOST_CALLS if timing.CUDA else 2):
        if timing.CUDA:
            torch.cuda.synchronize()
        started = time.perf_counter()
        forward(inputs, kernels)
        found.append(1e6 * (time.perf_counter() - started))
    return statistics.median(found)


def row_of(
    inputs: timing.Inputs, expected: tuple[torch.Tensor, ...], times: float, scan: str, stages: int | None
) -> dict[str, Any]:
    """One size of segments with one scan."""
    kernels = kernels_of(inputs, times, scan, stages)
    B, T, H, K = inputs[0].shape
    V, count = inputs[2].shape[-1], len(segments_of(None, B, T, H, kernels.C, kernels.device, times=times))
    row: dict[str, Any] = {
        "shape [B, T, H, d_k, d_v]": [B, T, H, K, V], "times": times, "scan": scan, "stages": stages or "ships",
        "segments": count,
    }  # fmt: skip
    with torch.no_grad():
        calls = [forward(inputs, kernels) for _ in range(2)]  # the first compiles, the second is what all others are
        row["same bits"] = all(all(map(torch.equal, found, expected)) for found in calls)
        del calls
        row["forward ms"] = timing.median_ms(partial(forward, inputs, kernels))
        row["host us"] = host_us(inputs, kernels)
        row["forward MiB"] = timing.peak_mib(partial(forward, inputs, kernels))
    if (B, T, K) in LEARNED or not timing.CUDA:
        leaves = tuple(x.clone().requires_grad_() for x in inputs)
        d_o = torch.randn_like(inputs[2])

        def learn() -> None:
            forward(leaves, kernels)[0].backward(d_o)
            for leaf in leaves:
                leaf.grad = None

        row["forward+backward ms"] = timing.median_ms(learn)
    return row


def rows_of(shape: timing.Shape, sizes: list[float], stages: list[int | None]) -> list[dict[str, Any]]:
    """All sizes of segments of a shape, with each scan in each number of stages."""
    inputs = timing.make_inputs(*shape, torch.bfloat16 if timing.CUDA else torch.float32)
    with torch.no_grad():
        expected = forward(inputs, None)
    usual, (B, T, H, _, _) = kernels_for(*inputs), shape
    rows, seen = [], set()
    for times in sizes:
        count = len(segments_of(None, B, T, H, usual.C, usual.device, times=times))
        if count not in seen:
            seen.add(count)
            rows += [row_of(inputs, expected, times, scan, each) for scan in SCANS for each in stages]
    return rows


def compile_ahead(shapes: list[timing.Shape], stages: list[int | None]) -> None:
    """Compile each head size in processes beside each other; the compiler keeps its work on disk."""
    if not timing.CUDA:
        return
    sizes = sorted({shape[2:] for shape in shapes})
    jobs = [
        ((1, 4096, *size), scan, each, learn)
        for size in sizes for scan in SCANS for each in stages for learn in (False, True)
    ]  # fmt: skip
    with children.pool(min(len(jobs), MOST_COMPILERS)) as pool:
        list(pool.map(_compile, *zip(*jobs, strict=True)))


def _compile(shape: timing.Shape, scan: str, stages: int | None, learn: bool) -> None:
    inputs = timing.make_inputs(*shape, torch.bfloat16)
    if learn and (1, 8192, shape[-1]) in LEARNED:
        leaves = tuple(x.requires_grad_() for x in inputs)
        forward(leaves, kernels_of(leaves, 0.125, scan, stages))[0].float().sum().backward()
    elif not learn:
        forward(inputs, kernels_of(inputs, 0.125, scan, stages))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--shapes", type=timing.shape_of, nargs="+", metavar="BxTxHxd")
    parser.add_argument("--times", type=float, nargs="+", default=list(TIMES), help="sizes of segments")
    parser.add_argument(
        "--stages", type=command_line.positive, nargs="+", default=[], help="of the scan, beside the number that ships"
    )
    parser.add_argument("--json", type=command_line.new_file)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    shapes = arguments.shapes or shapes_of()
    machine = timing.describe(None)
    stages = [None, *arguments.stages]
    compile_ahead(shapes, stages)
    rows: list[dict[str, Any]] = []
    for shape in shapes:
        for row in rows_of(shape, arguments.times, stages):
            rows.append(row)
            print(json.dumps(row), flush=True)
        if arguments.json:  # after each shape: a run that is stopped leaves what it had
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    if not all(row["same bits"] for row in rows):
        sys.exit("some results have other bits than the usual call's")


if __name__ == "__main__":
    command_line.answer(main)
