"""Decoding steps whose products are thin: what they give, and that everything that reads one tensor is one launch."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from fakes import mixer_config, small_model
from torch import Tensor

from gdn2.modules import Linear, SwiGLU
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.overwriting import overwriting_states
from gdn2.ops.thin import thins
from gdn2.ops.triton import thin
from gdn2.products import Products

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many matrices each launch has had."""
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    found: list[int] = []
    launch = thin._launch

    def noted(x: Tensor, weights: Any, *others: Any) -> list[Tensor]:
        found.append(len(weights))
        return launch(x, weights, *others)

    monkeypatch.setattr(thin, "_launch", noted)
    return found


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("gdn2", {}, [7, 1]),  # q, k, v, both gates and the first of both pairs; the output
        ("kda", {}, [6, 1]),
        ("swa", {"attention_gate": True}, [4, 1]),
        ("attention", {"attention_bias": True}, [3, 1]),
    ],
)
def test_a_step_in_place_gives_what_a_forward_gives_in_few_launches(
    kind: str, changes: dict[str, Any], expected: list[int], launches: list[int]
) -> None:
    model = cast(Any, small_model(mixer_config(kind, **changes))).to(DEVICE).model
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 2]], device=DEVICE)
    before = model(ids[:, :3], use_cache=True).past_key_values
    exact = model(ids[:, 3:], past_key_values=before, use_cache=True)
    assert launches == []
    state = before.gather([(before, row) for row in range(2)], slots=8)
    with overwriting_states():
        ours = model(ids[:, 3:], past_key_values=state, use_cache=True)
    torch.testing.assert_close(ours.last_hidden_state, exact.last_hidden_state, atol=1e-4, rtol=1e-4)
    assert launches == [*expected, 2, 1]  # and SwiGLU's two, and its last


@torch.no_grad()
def test_gates_that_only_their_sigmoid_is_asked_of_are_opened_by_the_launch(launches: list[int]) -> None:
    torch.manual_seed(0)
    layers = [Linear(48, size, bias=bias, device=DEVICE) for size, bias in ((16, False), (24, False), (8, True))]
    x = torch.randn(2, 1, 48, device=DEVICE)
    exact = [layers[0](x), torch.sigmoid(layers[1](x)), torch.sigmoid(layers[2](x))]
    with overwriting_states():
        read = Products(x, layers, opens=layers[1:])
        ours = [read(layers[0]), read.sigmoid(layers[1]), read.sigmoid(layers[2])]
    assert launches == [2, 1]
    for y, e in zip(ours, exact, strict=True):
        torch.testing.assert_close(y, e)


@torch.no_grad()
def test_all_else_is_pytorchs(launches: list[int]) -> None:
    layer, mlp = Linear(48, 16, device=DEVICE), SwiGLU(48, 16).to(DEVICE)
    few, many = torch.randn(2, 1, 48, device=DEVICE), torch.randn(33, 1, 48, device=DEVICE)
    with overwriting_states():
        assert thins(few, layer.weight, layer.bias)
        assert not thins(many, layer.weight, layer.bias)
        assert not thins(few, layer.weight.half())
        assert not thins(few, layer.weight[:, ::2])
        layer(many), mlp(many)
        with torch.autocast(DEVICE, torch.bfloat16):
            layer(few), mlp(few)
        with torch.enable_grad():
            layer(few), mlp(few)
    layer(few), mlp(few)
    assert launches == []
