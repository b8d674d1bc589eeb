"""A layer's small steps as kernels against PyTorch's operations in float64: on a GPU natively, else interpreted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gdn2.modules import RMSNorm, SwiGLU, convolve, unit_length
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.fused import fuses
from gdn2.ops.triton.mixing import convolve as by_kernel
from gdn2.ops.triton.mixing import decay
from gdn2.ops.triton.norm import rms_norm, swiglu
from gdn2.padding import Padding

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = 1e-6  # float32: relative L2
HALF = 0.0 if torch.cuda.is_available() else 2**-7  # the interpreter cuts bfloat16's digits where a GPU rounds them


def random(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=rng, dtype=torch.float64)


def run(function: Any, *tensors: Tensor, **options: Any) -> Tensor:
    """The result of a kernel on these numbers in float32, in float64 on the CPU again."""
    return function(*(x.float().to(DEVICE) for x in tensors), **options).double().cpu()  # type: ignore[no-any-return]


def assert_close(ours: Tensor, exact: Tensor, tolerance: float = EXACT) -> None:
    assert ours.shape == exact.shape
    assert float((ours - exact).norm() / exact.norm()) <= tolerance


@pytest.mark.parametrize(("shape", "groups"), [((3, 5, 48), 1), ((2, 7, 90), 3), ((1, 1, 2304), 1), ((40, 2, 16), 1)])
@pytest.mark.parametrize("activation", [None, "sigmoid", "silu"])
def test_norms_and_their_gates(shape: Any, groups: int, activation: str | None) -> None:
    x, gate, weight = random(*shape), random(*shape, seed=1), random(shape[-1], seed=2)
    layer = RMSNorm(shape[-1], 1e-5, groups).double().requires_grad_(False)
    layer.weight.copy_(weight)
    if activation is None:
        assert_close(run(rms_norm, x, weight, eps=1e-5, groups=groups), layer(x))
        return
    ours = run(lambda a, b, c: rms_norm(a, b, 1e-5, groups, c, activation), x, weight, gate)
    assert_close(ours, layer.gated(x, gate, activation))


@torch.no_grad()
@pytest.mark.parametrize("dtypes", [("bfloat16", "bfloat16"), ("float32", "bfloat16"), ("float32", "float32")])
@pytest.mark.parametrize("shape", [(3, 5, 48), (1, 1, 2304), (0, 4, 16)])
def test_a_sum_is_rounded_as_pytorch_rounds_it_and_then_normalised(
    shape: tuple[int, ...], dtypes: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    layer = RMSNorm(shape[-1], 1e-5).to(DEVICE)
    layer.weight.copy_(random(shape[-1], seed=2))
    x, added = (random(*shape, seed=i).to(DEVICE, getattr(torch, dtype)) for i, dtype in enumerate(dtypes))
    (total, y), wanted = layer.of_sum(x, added), x + added
    torch.testing.assert_close(total, wanted, atol=0, rtol=HALF if wanted.dtype == torch.bfloat16 else 0)
    again = 2**-7 if wanted.dtype == torch.bfloat16 else 1e-6  # a compiler may sum the squares in another order
    torch.testing.assert_close(y, layer(total), atol=again, rtol=again)
    assert total.dtype == y.dtype == wanted.dtype


@torch.no_grad()
def test_a_zero_centred_norm_is_the_same_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with weights in bfloat16, of which 1 + weight would lose digits."""
    layer = RMSNorm(48, 1e-5, zero_centred=True).bfloat16()
    layer.weight.copy_(0.01 * random(48, seed=1))
    x = random(3, 5, 48)
    exact = x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * (1 + layer.weight.double())
    for kernel in (False, True):
        monkeypatch.setattr(layer, "_fuses", lambda *_, kernel=kernel: kernel)
        assert_close(run(layer.to(DEVICE), x), exact)


def test_the_product_of_swiglu() -> None:
    gate, up = random(3, 700, scale=20), random(3, 700, seed=1)
    assert_close(run(swiglu, gate, up), torch.nn.functional.silu(gate) * up)


@pytest.mark.parametrize(("T", "C", "heads"), [(1, 48, 4), (7, 48, 48), (70, 2100, 3)])
def test_small_decays_keep_their_digits(T: int, C: int, heads: int) -> None:
    # A memory of a million tokens decays by about 1e-6 a token: the relative error counts, not the absolute one.
    f, A_log, dt_bias = random(2, T, C, scale=8), random(heads, scale=2, seed=1), random(C, scale=4, seed=2)
    rates = A_log.exp().repeat_interleave(C // heads)
    exact = -rates * torch.nn.functional.softplus(f + dt_bias, threshold=1e9)
    assert exact.abs().min() < 1e-9
    # exp(x) of a rounded x: 1 + |x| ulps
    assert float(((run(decay, f, A_log, dt_bias) - exact) / exact).abs().max()) < 5e-6


@pytest.mark.parametrize("T", [1, 2, 9, 70])
@pytest.mark.parametrize("unit", [False, True])
def test_the_convolution_with_its_state_and_unit_length(T: int, unit: bool) -> None:
    B, H, D, W = 2, 3, 20, 4
    x, weight, tail = random(B, T, H * D), random(H * D, 1, W, seed=1), random(B, W - 1, H * D + 8, seed=2)
    y, next_tail = convolve(x, weight, None, tail[..., 8:], None)
    if unit:
        y = unit_length(y.view(B, T, H, D)).view(B, T, -1)
    xs, weights, tails = (part.float().to(DEVICE) for part in (x, weight, tail))
    kept = torch.full_like(tails, float("nan"))
    options: dict[str, Any] = {"activate": True, "unit_length": unit, "eps": 1e-6, "bounds": None}
    ours = by_kernel(xs, weights, None, tails[..., 8:], kept[..., 8:], D, **options)
    assert_close(ours.double().cpu(), y)
    assert torch.equal(kept[..., 8:].cpu(), next_tail.float())
    assert kept[..., :8].isnan().all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_at_padding_changes_neither_outputs_nor_tail(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    T, C, W, lengths = 11, 24, 4, (11, 5, 2, 0)
    mask = torch.zeros(len(lengths), T, dtype=torch.long)
    for row, length in enumerate(lengths):
        mask[row, slice(T - length, T) if side == "left" else slice(0, length)] = 1
    padding = Padding.from_mask(mask.to(DEVICE), (len(lengths), T), continues=False)
    is_token = mask.bool()
    x, weight, bias = random(len(lengths), T, C), random(C, 1, W, seed=1), random(C, seed=2)
    tail = random(len(lengths), W - 1, C, seed=3) * (side == "right")
    exact, exact_tail = convolve(x, weight, bias, tail, Padding.from_mask(mask, (len(lengths), T), continues=False))
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    poisoned = torch.where(is_token[..., None], x, 1e30)
    inputs = [part.float().to(DEVICE) for part in (poisoned, weight, bias, tail)]
    assert fuses(*inputs)
    arguments: list[Any] = [*inputs, padding]
    y, next_tail = convolve(*arguments)
    assert_close(y.double().cpu()[is_token], exact[is_token])
    assert torch.equal(next_tail.cpu(), exact_tail.float())
    assert y.isfinite().all()


def test_kernels_run_where_no_gradient_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    layer, x = SwiGLU(16, 24).to(DEVICE), torch.randn(2, 3, 16, device=DEVICE)
    assert not fuses(layer.gate_proj.weight)
    layer(x).sum().backward()
    assert layer.gate_proj.weight.grad is not None
    with torch.no_grad():
        assert fuses(layer.gate_proj.weight)
        assert not fuses(x.double())
        ours = layer(x)
    monkeypatch.setenv(BACKEND_VARIABLE, "chunked")
    assert not fuses(x)
    torch.testing.assert_close(ours, layer(x), atol=1e-6, rtol=1e-5)
