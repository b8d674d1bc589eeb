"""Gradients of a layer's small steps by kernels against autograd in float64: on a GPU natively, else interpreted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, silu, softplus

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.modules import L2_EPS, RMSNorm, short_convolution, unit_length
from gdn2.ops import learning
from gdn2.ops.backends import BACKEND_VARIABLE

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = 2e-6  # float32: relative L2
HALF = 0.0 if torch.cuda.is_available() else 2**-7  # the interpreter cuts bfloat16's digits where a GPU rounds them


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_gradients(ours: Callable[..., Tensor], exact: Callable[..., Tensor], *inputs: Tensor) -> None:
    """The results of two functions, and the gradients of a weighted sum of them, agree."""
    found = []
    for function, dtype, device in ((exact, torch.float64, "cpu"), (ours, torch.float32, DEVICE)):
        leaves = [x.to(device, dtype, copy=True).requires_grad_() for x in inputs]
        y = function(*leaves)
        gradients = torch.autograd.grad(y, leaves, random(*y.shape, seed=9).to(y))
        found.append([y.detach().double().cpu(), *(gradient.double().cpu() for gradient in gradients)])
    for wanted, got in zip(*found, strict=True):
        assert got.shape == wanted.shape
        assert float((got - wanted).norm() / wanted.norm()) < EXACT


@pytest.mark.parametrize("shape", [(3, 5, 48), (200, 16), (1, 1, 2304), (2, 3, 4, 24)])
@pytest.mark.parametrize("activation", ["none", "sigmoid", "silu"])
def test_norms_and_their_gates(shape: tuple[int, ...], activation: str) -> None:
    layer = RMSNorm(shape[-1], 1e-5).double()

    def exact(x: Tensor, weight: Tensor, *gate: Tensor) -> Tensor:
        normed = x * (x.square().mean(-1, keepdim=True) + layer.eps).rsqrt() * weight
        return normed * (silu(gate[0]) if activation == "silu" else torch.sigmoid(gate[0])) if gate else normed

    def ours(x: Tensor, weight: Tensor, *gate: Tensor) -> Tensor:
        return learning.rms_norm(x, weight, layer.eps, gate[0] if gate else None, activation)

    gates = () if activation == "none" else (random(*shape, seed=2),)
    assert_same_gradients(ours, exact, random(*shape), random(shape[-1], seed=1), *gates)


@pytest.mark.parametrize("shape", [(3, 5, 48), (200, 16), (1, 1, 2304)])
@pytest.mark.parametrize("taken", ["both", "norm"])
def test_a_sum_and_its_norm(shape: tuple[int, ...], taken: str) -> None:
    """The gradient of the sum joins that of the norm; where nothing else takes the sum there is only the norm's."""
    factor = random(*shape, seed=4)

    def weighed(total: Tensor, y: Tensor) -> Tensor:
        return y + factor.to(y) * total if taken == "both" else y

    def exact(x: Tensor, added: Tensor, weight: Tensor) -> Tensor:
        total = x + added
        return weighed(total, total * (total.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight)

    def ours(x: Tensor, added: Tensor, weight: Tensor) -> Tensor:
        return weighed(*learning.add_rms_norm(x, added, weight, 1e-5))

    assert_same_gradients(ours, exact, random(*shape), random(*shape, seed=1), random(shape[-1], seed=2))


@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32)]
)
def test_gradients_of_a_sum_have_the_dtypes_of_what_was_summed(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    weight = random(32, seed=2).float().to(DEVICE).requires_grad_()
    parts = [random(6, 32, seed=i).to(DEVICE, dtype).requires_grad_() for i, dtype in enumerate(dtypes)]
    wanted = parts[0] + parts[1]
    total, y = learning.add_rms_norm(parts[0], parts[1], weight, 1e-5)
    torch.testing.assert_close(total, wanted, atol=0, rtol=HALF)
    assert total.dtype == y.dtype == wanted.dtype
    found = torch.autograd.grad(total.float().pow(3).sum() + y.float().sum(), parts)
    assert [gradient.dtype for gradient in found] == list(dtypes)
    torch.testing.assert_close(found[0].float(), found[1].float(), atol=0, rtol=2**-7)
    (alone,) = torch.autograd.grad(learning.add_rms_norm(parts[0], parts[1], weight, 1e-5)[0].float().sum(), parts[1])
    assert torch.equal(alone, torch.ones_like(alone))


@pytest.mark.parametrize("size", [(2, 3, 40), (5, 1024)])
def test_swiglu_through_its_last_layer(size: tuple[int, ...]) -> None:
    gate, up, weight = random(*size), random(*size, seed=1), random(24, size[-1], seed=2)
    assert_same_gradients(learning.swiglu_down, lambda g, u, w: linear(silu(g) * u, w), gate, up, weight)


@pytest.mark.parametrize(("tokens", "heads", "channels"), [(5, 3, 24), (40, 2, 640), (1, 1, 8)])
def test_decay(tokens: int, heads: int, channels: int) -> None:
    def exact(f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
        return -A_log.exp().repeat_interleave(channels) * softplus(f + dt_bias)

    f = 3 * random(2, tokens, heads * channels)
    assert_same_gradients(learning.decay, exact, f, random(heads, seed=1), random(heads * channels, seed=2))


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("activate", "unit"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(
    ("tokens", "head", "heads", "taps"), [(7, 24, 2, 4), (300, 16, 1, 3), (1, 16, 2, 4), (5, 8, 1, 1)]
)
def test_convolution_with_what_follows(
    tokens: int, head: int, heads: int, taps: int, activate: bool, unit: bool, has_bias: bool
) -> None:
    C = head * heads
    tail = random(2, taps - 1, C, seed=3)

    def exact(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        y = short_convolution(x, weight, tail, bias[0] if bias else None, activate=activate)
        return unit_length(y.unflatten(-1, (heads, head))).flatten(-2) if unit else y

    def ours(x: Tensor, weight: Tensor, *bias: Tensor) -> Tensor:
        return learning.convolve(
            x, weight, bias[0] if bias else None, tail.to(x), head, activate=activate, unit_length=unit, eps=L2_EPS
        )

    biases = (random(C, seed=2),) if has_bias else ()
    assert_same_gradients(ours, exact, random(2, tokens, C), random(C, 1, taps, seed=1), *biases)


@pytest.mark.parametrize("mixer", ["gdn2", "kda", "gated_deltanet", "mamba2"])
def test_models_learn_the_same_by_kernels(mixer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gradient of a small model, also where a text is read in two parts and gradients pass between them."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 32,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_heads": 2,
        "head_dim": 16,
    }
    with torch.device(DEVICE):
        model = GDN2ForCausalLM(GDN2Config(**sizes, intermediate_size=48, layers=mixer))
    ids = torch.randint(0, 32, (2, 9), device=DEVICE)
    used: list[bool] = []
    found = []
    can_fuse = learning.can_fuse

    def counted(*tensors: Tensor) -> bool:
        used.append(can_fuse(*tensors))
        return used[-1]

    monkeypatch.setattr(learning, "can_fuse", counted)
    for backend in ("naive", "triton"):
        monkeypatch.setenv(BACKEND_VARIABLE, backend)
        model.zero_grad()
        first = model.model(input_ids=ids[:, :5], use_cache=True)
        second = model.model(input_ids=ids[:, 5:], past_key_values=first.past_key_values, use_cache=True)
        torch.cat([first.last_hidden_state, second.last_hidden_state], dim=1).pow(3).sum().backward()
        found.append({name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None})
    assert True in used
    assert found[0].keys() == found[1].keys()
    for name, wanted in found[0].items():
        assert float((found[1][name] - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 1e-7, name


def test_under_autocast_results_have_its_dtype_and_gradients_that_of_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    layer = RMSNorm(16, 1e-5).to(DEVICE)
    with torch.autocast(DEVICE, torch.bfloat16):
        y = layer(torch.ones(2, 16, device=DEVICE))
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_a_second_gradient_is_refused_and_nothing_learns_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    x = torch.ones(2, 16, device=DEVICE, requires_grad=True)
    assert learning.learns(x)
    with torch.no_grad():
        assert not learning.learns(x)
    assert not learning.learns(x.detach())
    assert not learning.learns(x.double())
    y = learning.rms_norm(x, torch.ones(16, device=DEVICE), 1e-5)
    with pytest.raises(RuntimeError, match="gradients of gradients"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)
