"""The operator with gradients on a CPU, against autograd of the recurrence in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_checks import NAMES, make_inputs
from torch import Tensor

from gdn2.ops import chunk_gradients, gated_delta_rule_2
from gdn2.ops.chunk_scores import _bearable, decayed_scores

DECAYS = ["none", "mild", "strong", "mixed", "extreme", "uneven"]


def _gradients(leaves: list[Tensor], backend: str, known: dict[int, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of the leaves; what is known has none."""
    inputs: list[Any] = [known.get(i, x) for i, x in enumerate(leaves)]
    found = gated_delta_rule_2(*inputs[:6], initial_state=inputs[6], output_final_state=True, backend=backend)
    o, state = found[0], found[1]
    assert state is not None
    rng = torch.Generator().manual_seed(1)
    d_o, d_state = (torch.randn(x.shape, generator=rng, dtype=torch.float64).to(x.dtype) for x in (o, state))
    asked = [x for i, x in enumerate(leaves) if i not in known]
    return [o, state], list(torch.autograd.grad((o, state), asked, (d_o, d_state)))


def _assert_right(inputs: list[Tensor], tolerance: float, known: dict[int, Tensor] | None = None) -> None:
    known = known or {}
    results = []
    for backend, dtype in (("chunked", inputs[0].dtype), ("naive", torch.float64)):
        leaves = [x.detach().to(dtype, copy=True).requires_grad_() for x in inputs]
        constants = {i: x.to(dtype) if x.dtype != dtype else x for i, x in known.items()}
        results.append(_gradients(leaves, backend, constants))
    names = ["o", "S'", *(f"d{name}" for i, name in enumerate(NAMES) if i not in known)]
    for name, ours, theirs in zip(names, *(outputs + found for outputs, found in results), strict=True):
        error = (ours.double() - theirs).norm() / theirs.norm().clamp_min(1e-30)
        assert error <= tolerance, f"{name}: {error:.2e}"


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("shape", [(3, 33, 2, 16, 24), (2, 65, 1, 40, 8), (1, 5, 1, 4, 3), (2, 48, 2, 8, 8)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_gradients_are_those_of_the_recurrence_at_any_length_and_decay(
    decay: str, shape: tuple[int, int, int, int, int], dtype: torch.dtype, tolerance: float
) -> None:
    _assert_right(make_inputs(*shape, decay=decay, dtype=dtype), tolerance)


@pytest.mark.parametrize("decay", ["mild", "strong"])
def test_nothing_erased_takes_a_shorter_way_to_the_same(decay: str) -> None:
    inputs = make_inputs(2, 40, 2, 8, 6, decay=decay)
    _assert_right(inputs, 1e-12, {4: torch.zeros((), dtype=torch.float64).expand_as(inputs[1])})


def test_one_gate_for_all_is_no_gate_of_zero() -> None:
    inputs = make_inputs(2, 40, 2, 8, 6)
    _assert_right(inputs, 1e-12, {4: torch.full((), 0.5, dtype=torch.float64).expand_as(inputs[1])})


def test_rows_that_run_apart_give_what_they_give_together(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(5, 37, 2, 8, 6, decay="uneven")
    _assert_right(inputs, 1e-12)
    monkeypatch.setattr(chunk_gradients, "CACHED", 2 * 37 * 2 * 8)
    _assert_right(inputs, 1e-12)


def test_padding_gets_no_gradient_and_changes_none() -> None:
    inputs = make_inputs(2, 40, 2, 8, 6, decay="none")
    padded = [*(torch.cat([x, torch.zeros_like(x[:, :9])], 1) for x in inputs[:6]), inputs[6]]
    _assert_right(padded, 1e-12)
    found = []
    for tensors in (inputs, padded):
        leaves = [x.clone().requires_grad_() for x in tensors]
        o, _ = gated_delta_rule_2(*leaves[:6], initial_state=leaves[6], backend="chunked")
        found.append(torch.autograd.grad(o[:, :40].square().sum(), leaves))
    for alone, beside in zip(*found, strict=True):
        assert torch.allclose(alone[:, :40], beside[:, :40], rtol=0, atol=1e-13)
    for beside in found[1][:6]:
        assert torch.count_nonzero(beside[:, 40:]) == 0


def test_a_decay_of_minus_infinity_has_gradients_and_gets_none() -> None:
    inputs = make_inputs(1, 40, 2, 8, 6)
    inputs[3][:, 20] = -torch.inf
    leaves = [x.clone().requires_grad_() for x in inputs]
    o, _ = gated_delta_rule_2(*leaves[:6], initial_state=leaves[6], backend="chunked")
    found = torch.autograd.grad(o.square().sum(), leaves)
    assert all(x.isfinite().all() for x in found)
    assert torch.count_nonzero(found[3][:, 20]) == 0
    assert torch.count_nonzero(found[6]) == found[6].numel()
    assert torch.count_nonzero(found[3][:, 19]) == found[3][:, 19].numel()


def test_half_precision_and_autocast_keep_sums_in_float32() -> None:
    inputs = make_inputs(2, 40, 2, 8, 6, dtype=torch.float32)
    halves = [x.bfloat16() for x in inputs[:6]]
    expected = _gradients([x.float().requires_grad_() for x in [*halves, inputs[6]]], "chunked", {})
    leaves = [x.requires_grad_() for x in [*halves, inputs[6].clone()]]
    with torch.autocast("cpu", torch.bfloat16):
        found = _gradients(leaves, "chunked", {})
    assert found[0][0].dtype == torch.bfloat16
    assert torch.equal(found[0][1], expected[0][1])
    for ours, theirs, leaf in zip(found[1], expected[1], leaves, strict=True):
        assert ours.dtype == leaf.dtype
        assert (ours.float() - theirs).norm() <= 1e-2 * theirs.norm()


@pytest.mark.parametrize(("steps", "size"), [(-0.1, 16), (-4.0, 8), (-12.0, 4), (-39.0, 2), (-41.0, 1)])
def test_blocks_are_as_large_as_their_decay_bears(steps: float, size: int) -> None:
    g = torch.full((3, 16, 4), -0.1, dtype=torch.float64)
    g[1, :, 2] = steps
    assert _bearable(g) == size
    rows, keys = torch.ones(1, 3, 16, 4, dtype=torch.float64), torch.ones(3, 16, 4, dtype=torch.float64)
    seen, G = decayed_scores(rows, keys, g), g.cumsum(1)
    expected = (G[:, :, None] - G[:, None]).exp().sum(-1).tril(-1)
    assert torch.allclose(seen.scores[0], expected, rtol=1e-13, atol=0)
    assert torch.allclose(seen.rows[0], G.exp(), rtol=1e-12, atol=0)
    assert torch.allclose(seen.total, G[:, -1].exp(), rtol=1e-12, atol=0)
