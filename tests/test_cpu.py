"""What a CPU does differently for speed, without gradients or a token at a time, gives what is specified."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from fakes import mixer_config, small_model
from torch import Tensor
from torch.nn.functional import conv1d, silu

import gdn2
from gdn2.modules import convolve
from gdn2.ops import chunked, gated_delta_rule_2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_a_convolution_is_the_same_with_gradients_and_without(
    dtype: torch.dtype, taps: int, bias: bool, tokens: int
) -> None:
    """Summed up in float32 at least and rounded once; the next state is of its own memory."""
    torch.manual_seed(0)
    x, tail = torch.randn(3, tokens, 24).to(dtype), torch.randn(3, taps - 1, 24).to(dtype)
    weight, offset = torch.randn(24, 1, taps).to(dtype), torch.randn(24).to(dtype) if bias else None
    inputs, eps = torch.cat([tail, x], dim=1), torch.finfo(dtype).eps
    exact = conv1d(inputs.double().mT, weight.double(), None if offset is None else offset.double(), groups=24).mT
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            y, after = convolve(x, weight, offset, tail, None)
        torch.testing.assert_close(y.double(), silu(exact), rtol=2 * eps, atol=2 * eps)
        assert torch.equal(after, inputs[:, tokens:])
        assert after.untyped_storage().nbytes() == after.numel() * after.element_size()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_token_of_the_recurrence_is_what_its_specification_gives(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v, b, w = (torch.randn(2, 1, 3, d).to(dtype) for d in (8, 8, 16, 8, 16))
    b = b[..., :1].expand_as(k)  # one number a head
    g, state = -torch.rand(2, 1, 3, 8), torch.randn(2, 3, 8, 16)
    before = state.clone()
    ours = gated_delta_rule_2(q, k, v, g, b, w, initial_state=state, output_final_state=True)
    exact = gated_delta_rule_2(q, k, v, g, b, w, initial_state=state, output_final_state=True, backend="naive")
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine is not None
        assert theirs is not None
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs)
    assert torch.equal(state, before)


def test_gradients_go_through_one_token() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(1, 1, 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(6)]
    state = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def run(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, state: Tensor) -> tuple[Tensor, ...]:
        o, after = gated_delta_rule_2(q, k, v, -g.square(), b, w, initial_state=state, output_final_state=True)
        assert after is not None
        return o, after

    assert torch.autograd.gradcheck(run, (*inputs, state))


@torch.no_grad()
def test_segments_of_the_recurrence_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With chunks of weak and of strong decay, and a last one that is not full; nor do other rows."""
    torch.manual_seed(0)
    q, k, v, b, w = (0.3 * torch.randn(2, 300, 2, 16) for _ in range(5))
    g = -torch.rand(2, 300, 2, 16) * torch.linspace(0, 6, 300)[:, None, None]
    found = []
    for chunks in (1, 2, 5, 16):
        monkeypatch.setattr(chunked, "_segment_chunks", lambda _, chunks=chunks: chunks)
        o, state = gated_delta_rule_2(q, k, v, g, b, w, output_final_state=True, backend="chunked")
        assert state is not None
        found.append(torch.cat([o.flatten(), state.flatten()]))
    assert all(torch.equal(other, found[0]) for other in found)
    monkeypatch.undo()
    alone, _ = gated_delta_rule_2(*(x[1:] for x in (q, k, v, g, b, w)), backend="chunked")
    assert torch.equal(alone, o[1:])


@pytest.mark.parametrize(("mixer", "most"), [("gdn2", 115), ("attention", 85)])
def test_a_layer_asks_little_in_a_step(mixer: str, most: int) -> None:
    """What does not change within a forward is not asked at every operation."""
    assert calls_of_step(mixer, mixer) - calls_of_step(mixer) <= most


@torch.inference_mode()
def calls_of_step(*layers: str) -> int:
    """Calls of functions of the model family in a step of one token."""
    ours, called, ids = str(Path(gdn2.__file__).parent), [], torch.ones(1, 1, dtype=torch.long)
    model = small_model(mixer_config(*layers))
    state = model(input_ids=ids, use_cache=True).past_key_values
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_filename) if event == "call" else None)
    model(input_ids=ids, past_key_values=state, use_cache=True)
    sys.setprofile(None)
    return sum(file.startswith(ours) for file in called)
