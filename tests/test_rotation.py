"""Rotary embedding by a kernel against PyTorch's operations in float64: on a GPU natively, else interpreted."""

from __future__ import annotations

import pytest
import torch
from operator_checks import DEVICE
from torch import Tensor

from gdn2.modules import turn_halves
from gdn2.ops.rotation import turn


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("H", "D", "turned"), [(1, 16, 16), (3, 20, 20), (18, 8, 4), (2, 128, 96), (9, 24, 12)])
def test_heads_and_their_gradients_turn_as_by_pytorch(H: int, D: int, turned: int) -> None:
    """Whole heads and parts of them, which are themselves a part of a joint projection."""
    B, T = 2, 5
    joint, angles, dy = (
        random(B, T, (H + 1) * D, seed=0),
        random(B, T, 1, turned // 2, seed=1),
        random(B, T, H, D, seed=2),
    )
    found = []
    for device, dtype in (("cpu", torch.float64), (DEVICE, torch.float32)):
        leaf = joint.to(device, dtype, copy=True).requires_grad_()
        x, cos, sin = (
            leaf[..., D:].unflatten(-1, (H, D)),
            angles.cos().to(device, dtype),
            angles.sin().to(device, dtype),
        )
        if dtype == torch.float64:
            y = torch.cat([turn_halves(x[..., :turned], cos, sin), x[..., turned:]], dim=-1)
        else:
            y = turn(x, cos, sin)
            assert torch.equal(turn(x.detach(), cos, sin), y)
        found.append((y, *torch.autograd.grad(y, leaf, dy.to(y))))
    for exact, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours.double().cpu(), exact, atol=1e-6, rtol=1e-6)


def test_half_precision_is_rounded_once() -> None:
    x, angles = random(1, 3, 2, 16, seed=0).half(), random(1, 3, 1, 8, seed=1)
    found = turn(x.to(DEVICE), angles.cos().float().to(DEVICE), angles.sin().float().to(DEVICE)).double().cpu()
    exact = turn_halves(x.double(), angles.cos(), angles.sin())
    assert bool(((found - exact).abs() <= 2**-11 * exact.abs() + 1e-6).all())
