"""A decoding step's kernels around the recurrence, and whole steps by them: on a GPU natively, else interpreted."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import pytest
import torch
from fakes import mixer_config, small_model
from torch import Tensor
from torch.nn.functional import linear, softplus
from torch.utils._python_dispatch import TorchDispatchMode

import gdn2.ops
from gdn2.mixers import stepping
from gdn2.modules import RMSNorm, last_inputs, short_convolution, unit_length
from gdn2.ops.backends import BACKEND_VARIABLE
from gdn2.ops.overwriting import overwriting_states
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.stepping import LowRankDecay, step_inputs, step_output

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EXACT = 2e-6  # float32: relative L2
MEMORY = ("empty", "empty_like", "_unsafe_view", "lift_fresh", "promote_types")  # they compute nothing


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def given(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.float().to(DEVICE) for x in tensors)


def assert_close(ours: Tensor, exact: Tensor) -> None:
    assert ours.shape == exact.shape
    assert float((ours.double().cpu() - exact).norm() / exact.norm()) < EXACT


@pytest.mark.parametrize(("activate", "unit"), [(True, True), (False, False)])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("H", "K", "HV", "V", "W", "R"), [(2, 16, 2, 16, 4, 12), (1, 24, 3, 40, 2, 0), (2, 8, 2, 8, 1, 70)]
)
def test_convolutions_and_decay_of_one_token(
    H: int, K: int, HV: int, V: int, W: int, R: int, overwrite: bool, activate: bool, unit: bool
) -> None:
    B, sizes = 3, (H * K, H * K, HV * V)
    parts = [random(B, 1, size, seed=i) for i, size in enumerate(sizes)]
    taps = [random(size, 1, W, seed=3 + i) for i, size in enumerate(sizes)]
    tail, f, up = random(B, W - 1, sum(sizes), seed=6), random(B, 1, R, seed=7), random(H * K, R, seed=8)
    A_log, dt_bias = random(H, seed=9), random(H * K, seed=10)
    tails = tail.split(sizes, dim=-1)
    exact = [short_convolution(*each, activate=activate) for each in zip(parts, taps, tails, strict=True)]
    if unit:
        exact[:2] = [unit_length(x.unflatten(-1, (H, K))).flatten(2) for x in exact[:2]]
    held = given(tail)[0]
    decay = LowRankDecay(*given(f, up, A_log, dt_bias)) if R else None
    found, after, g = step_inputs(
        cast(Any, given(*parts)), cast(Any, given(*taps)), held, (K, V), decay,
        activate=activate, unit_length=unit, eps=1e-6, overwrite=overwrite,
    )  # fmt: skip
    for ours, wanted in zip(found, exact, strict=True):
        assert_close(ours, wanted)
    assert torch.equal(after.cpu(), last_inputs(torch.cat(parts, dim=-1), tail, None).float())
    assert (after.data_ptr() == held.data_ptr()) == (overwrite or W == 1)
    assert overwrite or torch.equal(held.cpu(), tail.float())
    if g is None:
        assert not R
    else:
        assert_close(g, -A_log.exp().repeat_interleave(K) * softplus(linear(f, up) + dt_bias))


@pytest.mark.parametrize("activation", ["sigmoid", "silu"])
@pytest.mark.parametrize(("H", "V", "R", "has_bias"), [(2, 16, 8, True), (3, 40, 70, False)])
def test_a_norm_with_a_low_rank_gate(H: int, V: int, R: int, activation: str, has_bias: bool) -> None:
    o, low, up, bias = random(3, 1, H, V), random(3, 1, R, seed=1), random(H * V, R, seed=2), random(H * V, seed=3)
    layer = RMSNorm(V, 1e-5).double().requires_grad_(False)
    layer.weight.copy_(random(V, seed=4))
    exact = layer.gated(o, linear(low, up, bias if has_bias else None).view(o.shape), activation)
    ours, weight, low, up, bias = given(o, layer.weight, low, up, bias)
    assert_close(step_output(ours, weight, 1e-5, low, up, bias if has_bias else None, activation=activation), exact)


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gdn2", {"output_gate": "silu", "erase_range": 2.0}),
        ("gdn2", {"erase_gate": "head", "write_gate": "mean", "num_value_heads": 4}),
        ("kda", {"gate_bias": False}),
        ("kda", {"decay_floor": -5.0}),
        ("gated_deltanet", {}),
        ("gla", {}),
        ("swa", {"attention_gate": True}),
    ],
)
def test_a_step_by_kernels_is_a_step_and_a_row_alone_has_the_bits_that_it_has_among_others(
    kind: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = cast(Any, small_model(mixer_config(kind, **changes))).to(DEVICE).model
    ids = torch.randint(1, 400, (3, 4), device=DEVICE)
    monkeypatch.setenv(BACKEND_VARIABLE, "chunked")
    state = model(ids[:, :3], use_cache=True).past_key_values
    expected = model(ids[:, 3:], past_key_values=state, use_cache=True)
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    with overwriting_states():
        found = model(ids[:, 3:], past_key_values=state.select([0, 1, 2]), use_cache=True)
        alone = model(ids[1:2, 3:], past_key_values=state.select([1]), use_cache=True)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    assert torch.equal(alone.last_hidden_state, found.last_hidden_state[1:2])
    for ours, own, wanted in zip(
        *(result.past_key_values.tensors() for result in (found, alone, expected)), strict=True
    ):
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)
        assert torch.equal(own, ours[1:2])


@torch.no_grad()
def test_all_of_a_recurrent_state_is_overwritten_where_that_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    model: Any = cast(Any, small_model(mixer_config("gdn2"))).to(DEVICE).model
    token = torch.tensor([[5], [7]], device=DEVICE)
    state = model(token, use_cache=True).past_key_values
    expected = model(token, past_key_values=state, use_cache=True)
    with overwriting_states():
        found = model(token, past_key_values=state, use_cache=True)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=1e-5)
    wanted = expected.past_key_values.layers[0].tensors()
    for name, tensor in found.past_key_values.layers[0].tensors().items():
        assert tensor.data_ptr() == state.layers[0].tensors()[name].data_ptr()
        torch.testing.assert_close(tensor, wanted[name], atol=1e-5, rtol=1e-5)


class Operations(TorchDispatchMode):
    """The operations of PyTorch that do more than to make memory or a view of it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket.__name__ not in MEMORY:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["gdn2", "kda", "swa"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_layers_step_is_nine_kernels(kind: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else, as a second layer shows; KDA's one gate a head is still opened by PyTorch."""
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    monkeypatch.setattr(gdn2.ops, "check_inputs", lambda *_: None)
    launched: list[int] = []
    monkeypatch.setattr(Launcher, "__call__", lambda *_: launched.append(1))
    counts = []
    for layers in (1, 2):
        model: Any = cast(Any, small_model(mixer_config(*[kind] * layers))).to(DEVICE).model
        state = model.empty_state(rows)
        launched.clear()
        with overwriting_states(), Operations() as operations:
            model(torch.ones(rows, 1, dtype=torch.long, device=DEVICE), past_key_values=state, use_cache=True)
        counts.append((len(launched), Counter(operations.names)))
    assert counts[1][0] - counts[0][0] == 9
    assert kind == "kda" or not counts[1][1] - counts[0][1]


@torch.no_grad()
def test_many_rows_go_through_products_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_VARIABLE, "triton")
    model: Any = cast(Any, small_model(mixer_config("gdn2"))).to(DEVICE).model
    tokens = torch.tensor([[5], [7]], device=DEVICE)
    expected = model(tokens).last_hidden_state
    monkeypatch.setattr("gdn2.mixers.base.project_step", lambda *_, **__: pytest.fail("a step of many rows"))
    monkeypatch.setattr(stepping, "MOST_ROWS", 1)
    torch.testing.assert_close(model(tokens).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
