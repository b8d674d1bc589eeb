"""Products of a few rows with weights by our kernel against float64: on a GPU natively, else interpreted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import thin as benchmark
import torch
from torch import Tensor
from torch.nn.functional import silu

from gdn2.ops.triton.thin import are_thin, products, swiglu_product, thin_tile

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = 1e-6  # float32: relative L2
SPLIT = {"BN": 16, "BK": 128, "SPLIT": 4, "num_warps": 4, "num_stages": 2}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def given(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return x.to(DEVICE, dtype)


def assert_close(ours: Tensor, exact: Tensor, tolerance: float = EXACT) -> None:
    assert ours.shape == exact.shape
    assert float((ours.double().cpu() - exact).norm() / exact.norm()) <= tolerance


@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize(("columns", "sizes"), [(48, (40,)), (90, (17, 33, 5)), (264, (8, 16))])
def test_products_of_one_x_with_several_matrices(rows: int, columns: int, sizes: Any) -> None:
    x, weights = random(rows, columns), [random(size, columns, seed=size) for size in sizes]
    ours = products(given(x), list(map(given, weights)), tile=SPLIT)
    for y, weight in zip(ours, weights, strict=True):
        assert y.is_contiguous()
        assert_close(y, x @ weight.T)


@pytest.mark.parametrize("rows", [1, 2])
def test_biases_and_the_gates_that_a_sigmoid_opens(rows: int) -> None:
    x, weights = random(rows, 1, 48), [random(size, 48, seed=size) for size in (24, 7, 16)]
    biases, opens = [random(len(weight), seed=9) for weight in weights], [False, True, True]
    ours = products(given(x), *(list(map(given, parts)) for parts in (weights, biases)), sigmoids=opens, tile=SPLIT)
    for y, weight, bias, opened in zip(ours, weights, biases, opens, strict=True):
        exact = x @ weight.T + bias
        assert_close(y, exact.sigmoid() if opened else exact)


@pytest.mark.parametrize(("rows", "size"), [(1, 40), (2, 37)])
def test_swiglus_product_of_two_matrices(rows: int, size: int) -> None:
    x, gate, up = random(1, rows, 72), random(size, 72, seed=1), random(size, 72, seed=2)
    ours = swiglu_product(given(x), given(gate), given(up), tile={**SPLIT, "BN": 2 * SPLIT["BN"]})
    assert_close(ours, silu(x @ gate.T) * (x @ up.T))


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float16, 4e-4),
        pytest.param(torch.bfloat16, 3e-3, marks=pytest.mark.gpu),  # of which the interpreter makes no products
    ],
)
def test_what_follows_a_product_reads_it_as_it_is_rounded(dtype: torch.dtype, tolerance: float) -> None:
    x, gate, up = (part.to(dtype).double() for part in (random(3, 64), random(40, 64, seed=1), random(40, 64, seed=2)))
    rounded = [(x @ weight.T).to(dtype).double() for weight in (gate, up)]
    x, gate, up = (given(part, dtype) for part in (x, gate, up))
    assert_close(swiglu_product(x, gate, up), silu(rounded[0]) * rounded[1], tolerance)
    plain, opened = products(x, [gate, up], sigmoids=[False, True])
    assert_close(plain, rounded[0], tolerance)
    assert_close(opened, rounded[1].sigmoid(), tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_row_gives_the_same_bits_alone_and_among_others(dtype: torch.dtype) -> None:
    """The tile that ships; among 2, 17 and 32 rows, which are those of two binaries."""
    x, gate, weight = (given(random(rows, 2304, seed=rows), dtype) for rows in (32, 72, 40))
    gate = gate[:40]
    for rows in (2, 17, 32):
        both, pair = products(x[:rows], [weight])[0], swiglu_product(x[:rows], gate, weight)
        for row in (0, 1, rows - 1):
            alone = x[row : row + 1]
            assert torch.equal(products(alone, [weight])[0][0], both[row])
            assert torch.equal(swiglu_product(alone, gate, weight)[0], pair[row])


def test_weights_may_lie_anywhere_in_memory() -> None:
    memory = given(random(40 * 64 + 1))
    x, weight = random(2, 64), memory[1:].view(40, 64)
    assert_close(products(given(x), [weight])[0], x @ weight.double().cpu().T)


def test_many_rows_and_many_matrices_are_left_to_others() -> None:
    weight = torch.zeros(4, 8)
    assert are_thin(32, [weight] * 8)
    assert not are_thin(33, [weight])
    assert not are_thin(1, [weight] * 9)
    assert not are_thin(0, [weight])


def test_the_order_of_sums_is_one_for_all_shapes() -> None:
    assert len({(tile["BK"], tile["SPLIT"]) for tile in (thin_tile(2), thin_tile(2, paired=True))}) == 1


def test_the_benchmark_measures_every_way_and_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "CUDA", False)  # not its timing
    monkeypatch.setattr(benchmark, "DTYPE", torch.float16)
    monkeypatch.setattr(benchmark, "tiles", lambda shape: {"ships": thin_tile(2, paired=shape.paired)})
    monkeypatch.setattr(sys, "argv", ["thin.py", "--json", str(tmp_path / "thin.json")])
    benchmark.main()
    rows = json.loads((tmp_path / "thin.json").read_text())["rows"]
    assert {row["how"] for row in rows} == {"separate", "joint", "ships"}
    assert all(row["us"] > 0 for row in rows)
    assert all(row["alone"] and row["error"] < 0.02 for row in rows if row["how"] == "ships")
