"""Derivatives that are not reverse mode's first ones, of layers whose gradients are written out: right, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.ops import onednn

LAYERS = ("gdn2", "kda", "mamba2", "gated_deltanet")
IDS = torch.randint(0, 64, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _as_on_a_cpu_where_onednn_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        monkeypatch.setattr(onednn, "mkl_is_narrow", lambda: True)
        monkeypatch.setattr(onednn, "LEAST", 0)


def model_of(layers: str) -> GDN2ForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_heads": 2,
        "head_dim": 16,
    }
    model = GDN2ForCausalLM(GDN2Config(**sizes, layers=layers))
    model.train()
    return model


def loss_of(model: nn.Module) -> Callable[[dict[str, Tensor]], Tensor]:
    def loss(weights: dict[str, Tensor]) -> Tensor:
        logits = torch.func.functional_call(model, weights, (IDS,), {"use_cache": False}).logits
        found: Tensor = nn.functional.cross_entropy(logits.flatten(0, 1).double(), IDS.flatten())
        return found

    return loss


@pytest.mark.parametrize("layers", LAYERS)
def test_transforms_of_functions_and_forward_mode_have_the_gradients_of_reverse_mode(layers: str) -> None:
    model = model_of(layers)
    weights: dict[str, Tensor] = dict(model.named_parameters())
    loss = loss_of(model)
    expected = dict(zip(weights, torch.autograd.grad(loss(weights), list(weights.values())), strict=True))
    found = torch.func.grad(loss)(weights)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)
    along = {name: torch.sign(gradient) for name, gradient in expected.items()}
    value, slope = torch.func.jvp(loss, (weights,), (along,))[:2]
    assert value.item() == pytest.approx(loss(weights).item(), rel=1e-5)
    assert slope.item() == pytest.approx(sum(float(g.abs().sum()) for g in expected.values()), rel=1e-4)


@pytest.mark.parametrize("layers", LAYERS)
def test_gradients_of_gradients_are_refused_or_by_autograd(layers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(layers).double()
    weights: dict[str, Tensor] = dict(model.named_parameters())
    loss = loss_of(model)
    with pytest.raises(RuntimeError, match="GDN2_BACKEND=naive runs all by autograd"):
        torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True)
    monkeypatch.setenv("GDN2_BACKEND", "naive")
    first = torch.autograd.grad(loss(weights), list(weights.values()), create_graph=True)
    along = [torch.sign(g.detach()) for g in first]
    turned = torch.stack([(g * a).sum() for g, a in zip(first, along, strict=True)]).sum()
    second = torch.autograd.grad(turned, list(weights.values()))
    slopes = [_gradients_at(weights, along, loss, step) for step in (1e-6, -1e-6)]
    for ours, up, down in zip(second, *slopes, strict=True):
        torch.testing.assert_close(ours, (up - down) / 2e-6, atol=1e-3, rtol=1e-3)


def _gradients_at(
    weights: dict[str, Tensor], along: list[Tensor], loss: Callable[[dict[str, Tensor]], Tensor], step: float
) -> tuple[Tensor, ...]:
    moved = {n: (w + step * a).detach().requires_grad_() for (n, w), a in zip(weights.items(), along, strict=True)}
    return torch.autograd.grad(loss(moved), list(moved.values()))
