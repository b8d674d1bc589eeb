"""Products on a CPU by oneDNN, against PyTorch's and float64."""

from __future__ import annotations

import pytest
import torch
from operator_checks import assert_close
from torch import Tensor
from torch.nn import functional

from gdn2.modules import Linear
from gdn2.ops import onednn
from gdn2.train.synthetic.trainee import fast_products

FORWARD, BACKWARD = 5e-7, 1e-6


@pytest.fixture(autouse=True)
def _as_on_a_cpu_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(onednn, "mkl_is_narrow", lambda: True)
    monkeypatch.setattr(onednn, "LEAST", 0)


def _inputs(*shape: int, outputs: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(*shape[:-1], size, generator=rng) for size in (shape[-1], outputs))
    weight, bias = torch.randn(outputs, shape[-1], generator=rng), torch.randn(outputs, generator=rng)
    return x, weight, bias, dy


@pytest.mark.parametrize(("shape", "outputs"), [((2, 7, 24), 40), ((3, 33, 40), 5), ((1, 16), 16), ((5, 1, 3), 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_products_and_gradients_are_those_of_float64(shape: tuple[int, ...], outputs: int, biased: bool) -> None:
    x, weight, bias, dy = _inputs(*shape, outputs=outputs)
    leaves = [t.requires_grad_() for t in ((x, weight, bias) if biased else (x, weight))]
    exact = [t.detach().double().requires_grad_() for t in leaves]
    y, expected = onednn.wide_linear(*leaves), functional.linear(*exact)
    assert "_Linear" in str(y.grad_fn.next_functions[0][0] if biased else y.grad_fn)  # type: ignore[union-attr]
    assert_close(y, expected, FORWARD)
    for ours, theirs in zip(
        torch.autograd.grad(y, leaves, dy), torch.autograd.grad(expected, exact, dy.double()), strict=True
    ):
        assert ours.shape == theirs.shape
        assert_close(ours, theirs, BACKWARD)


def test_transposed_and_cut_tensors_are_read_as_they_lie() -> None:
    x, weight, _, dy = _inputs(6, 32, outputs=20)
    laid = (x.t().contiguous().t(), torch.cat([weight, weight], 1)[:, :32], dy.expand(2, -1, -1)[1])
    leaves = [t.requires_grad_() for t in laid[:2]]
    y = onednn.wide_linear(*leaves)
    assert_close(y, x.double() @ weight.double().t(), FORWARD)
    dx, dweight = torch.autograd.grad(y, leaves, laid[2])
    assert_close(dx, dy.double() @ weight.double(), BACKWARD)
    assert_close(dweight, dy.double().t() @ x.double(), BACKWARD)


def test_only_the_gradients_that_are_asked_for_are_made() -> None:
    x, weight, _, dy = _inputs(6, 32, outputs=20)
    (dweight,) = torch.autograd.grad(onednn.wide_linear(x, weight.requires_grad_()), (weight,), dy)
    assert_close(dweight, dy.double().t() @ x.double(), BACKWARD)


def test_gradients_of_gradients_are_those_of_pytorch() -> None:
    x, weight, _, _ = _inputs(4, 8, outputs=6)
    found = []
    for linear in (onednn.wide_linear, functional.linear):
        leaves = [t.detach().clone().requires_grad_() for t in (x, weight)]
        (dx,) = torch.autograd.grad(linear(*leaves).square().sum(), leaves[0], create_graph=True)
        found.append(torch.autograd.grad(dx.square().sum(), leaves))
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs, 2e-6)


@pytest.mark.parametrize("biased", [False, True])
def test_a_layer_without_gradients_is_that_of_float64(biased: bool) -> None:
    x, weight, bias, _ = _inputs(2, 7, 24, outputs=40)
    layer = Linear(24, 40, bias=biased)
    layer.load_state_dict({"weight": weight, "bias": bias} if biased else {"weight": weight})
    expected = functional.linear(x.double(), weight.double(), bias.double() if biased else None)
    with torch.inference_mode():
        assert_close(layer(x), expected, FORWARD)
    found = layer.requires_grad_(False)(x.transpose(0, 1))
    assert found.grad_fn is None
    assert_close(found, expected.transpose(0, 1), FORWARD)


def test_products_of_few_numbers_are_pytorchs_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "LEAST", 5 * 700 * 48)
    monkeypatch.setattr(onednn, "LARGE", 700 * 49)
    asked: list[int] = []

    def product(x: Tensor, y: Tensor, bias: Tensor | None) -> Tensor:
        asked.append(len(x))
        return functional.linear(x, y, bias)

    monkeypatch.setattr(onednn, "wide_product", product)
    x, weight, bias, _ = _inputs(5, 700, outputs=48)
    assert torch.equal(onednn.wide_linear(x[:4], weight, bias), functional.linear(x[:4], weight, bias))
    assert not asked
    onednn.wide_linear(x, weight, bias)
    onednn.wide_linear(x[:1], torch.cat([weight, weight]), torch.cat([bias, bias]))
    assert asked == [5, 1]


def test_lower_precision_that_somebody_asked_for_is_left_to_pytorch() -> None:
    x, weight, _, _ = _inputs(5, 16, outputs=8)
    try:
        torch.set_float32_matmul_precision("high")
        assert not onednn.widens(x, weight)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert onednn.widens(x, weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_and_autocast_are_left_to_pytorch(dtype: torch.dtype) -> None:
    x, weight, _, _ = _inputs(5, 16, outputs=8)
    assert onednn.widens(x, weight)
    assert not onednn.widens(x.to(dtype), weight.to(dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert not onednn.widens(x, weight)


def test_a_study_on_a_cpu_multiplies_by_onednn() -> None:
    x, weight, _, _ = _inputs(5, 16, outputs=8)
    with fast_products(x.device):
        assert onednn.widens(x, weight)
