"""More than 2^31 numbers in one tensor, after a small call of the same kind has fixed its kernels' integers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operator_checks import assert_close
from torch import Tensor

from gdn2.ops import gated_delta_rule_2
from gdn2.ops.triton.attention import attend, rotate_and_store
from gdn2.ops.triton.banded import band_forward
from gdn2.ops.triton.banded_backward import band_gradients
from gdn2.ops.triton.mixing import convolve, decay
from gdn2.ops.triton.norm import add_rms_norm, rms_norm, swiglu
from gdn2.ops.triton.norm_gradients import add_rms_norm_gradients, rms_norm_gradients
from gdn2.ops.triton.rotation import turn
from gdn2.ops.triton.steps import convolution_gradients, decay_gradients, swiglu_gradients

GIB = 2**30
BEYOND = 2**31
C, TAIL = 2048, 100  # channels of a token; tokens whose numbers are looked at, all of them beyond 2^31
TOKENS = BEYOND // C + 4 * TAIL


def free_bytes() -> int:
    return torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0


pytestmark = pytest.mark.skipif(free_bytes() < 40 * GIB, reason="takes a GPU with 40 GiB that nothing uses")


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    """Random numbers [1, TOKENS, C] in bfloat16, a few of them for every token."""
    few = torch.rand(1, 1 << 16, C, device="cuda", dtype=torch.bfloat16) - 0.5
    return few.repeat(1, TOKENS // few.shape[1] + 1, 1)[:, :TOKENS]


def last(x: Tensor) -> Tensor:
    return x.flatten(0, -2)[-TAIL:]


def assert_ends_equal(run: Any, x: Tensor, *per_token: int) -> None:
    """`run(x)` ends as `run` of its last tokens does; of its results, `per_token` are those of every token."""
    near = run(x[:, -TAIL:].clone())
    far = run(x)
    for i in per_token:
        assert last(near[i]).any()
        assert torch.equal(last(near[i]), last(far[i]))


def test_norms_and_products_of_wide_layers(tokens: Tensor) -> None:
    weight = torch.rand(C, device="cuda", dtype=torch.bfloat16)
    assert_ends_equal(lambda x: (rms_norm(x, weight, 1e-6), swiglu(x, x)), tokens, 0, 1)
    assert_ends_equal(lambda x: (rms_norm(x, weight, 1e-6, C // 128, x, "silu"),), tokens, 0)
    assert_ends_equal(lambda x: add_rms_norm(x, x, weight, 1e-6), tokens, 0, 1)


def test_decay_and_the_short_convolution(tokens: Tensor) -> None:
    A_log, bias = torch.rand(16, device="cuda"), torch.rand(C, device="cuda")
    assert_ends_equal(lambda x: (decay(x, A_log, bias),), tokens, 0)
    weight = torch.rand(C, 1, 4, device="cuda", dtype=torch.bfloat16)

    def convolved(x: Tensor) -> tuple[Tensor, Tensor]:
        tail = torch.zeros(1, 3, C, device="cuda", dtype=torch.bfloat16)
        y = convolve(
            x, weight, None, tail, after := torch.empty_like(tail), 128,
            activate=True, unit_length=True, eps=1e-6, bounds=None,
        )  # fmt: skip
        return y[:, 3:], after

    near, far = convolved(tokens[:, -TAIL:].clone()), convolved(tokens)
    assert torch.equal(near[0], far[0][:, -(TAIL - 3) :])
    assert torch.equal(near[1], far[1])


def test_gradients_of_a_layers_steps(tokens: Tensor) -> None:
    weight = torch.rand(C, device="cuda", dtype=torch.bfloat16)
    assert_ends_equal(lambda x: swiglu_gradients(x, x, x), tokens, 0, 1, 2)
    assert_ends_equal(lambda x: rms_norm_gradients(x, x, weight, 1e-6, None, "none"), tokens, 0)
    assert_ends_equal(lambda x: add_rms_norm_gradients(x, x, x, weight, 1e-6, x.dtype), tokens, 0)
    A_log, bias = torch.rand(16, device="cuda"), torch.rand(C, device="cuda")
    assert_ends_equal(lambda x: decay_gradients(x, x, A_log, bias), tokens, 0)
    taps = torch.rand(C, 1, 4, device="cuda", dtype=torch.bfloat16)
    tail = torch.zeros(1, 3, C, device="cuda", dtype=torch.bfloat16)

    def gradients(x: Tensor) -> tuple[Tensor]:
        dx = convolution_gradients(x, x, taps, None, tail, 128, activate=True, unit_length=True, eps=1e-6)[0]
        return (dx[:, 3:],)

    near, far = gradients(tokens[:, -TAIL:].clone())[0], gradients(tokens)[0]
    assert torch.equal(near, far[:, -(TAIL - 3) :])


def test_attention_in_a_window_with_its_gradients_and_rotation(tokens: Tensor) -> None:
    """The last tokens as those of a text that begins in front of them where a block of the long one does."""

    def attended(x: Tensor) -> tuple[Tensor, ...]:
        x = x.view(1, -1, 16, 128)
        o, lse = band_forward(x, x, x, 64, 0.1, with_lse=True)
        assert lse is not None
        gradients = band_gradients(x, x, x, x, o, lse, window=64, scale=0.1)
        return tuple(part.flatten(2)[:, -TAIL:] for part in (o, *gradients))

    near, far = attended(tokens[:, -4 * TAIL :].clone()), attended(tokens)
    for ours, expected in zip(far, near, strict=True):
        assert expected.any()
        assert torch.equal(ours, expected)
    angles = torch.rand(1, TOKENS, 1, 64, device="cuda")

    def turned(x: Tensor) -> tuple[Tensor]:
        return (
            turn(x.view(1, -1, 16, 128), angles[:, -x.shape[1] :], angles[:, -x.shape[1] :], back=False).flatten(2),
        )

    assert_ends_equal(turned, tokens, 0)


def test_slots_of_attention() -> None:
    B, S, G, D = 3, 1 << 20, 8, 128
    keys = torch.empty(B, S, G, D, device="cuda", dtype=torch.bfloat16)
    keys[:, -300:] = torch.rand(B, 300, G, D, device="cuda", dtype=torch.bfloat16)
    keys[:, :-300] = 0
    q = torch.rand(B, 2 * G, D, device="cuda", dtype=torch.bfloat16)
    before = torch.full((B,), S - 1, device="cuda")
    attend(q, keys[:, -300:].clone(), keys[:, -300:].clone(), before * 0 + 299, None)
    far, near = attend(q, keys, keys, before, None), attend(q[2:], keys[2:], keys[2:], before[2:], None)
    assert torch.equal(far[2:], near)
    k = torch.rand(B, G, D, device="cuda", dtype=torch.bfloat16)
    rotate_and_store(q, k, k, keys[:, -300:].clone(), keys[:, -300:].clone(), before, turns=None)
    rotate_and_store(q, k, k, keys, keys, before, turns=None)
    assert torch.equal(keys[:, -1], k)


def test_the_operator_reads_and_writes_a_million_tokens_of_sixteen_heads_in_one_call(tokens: Tensor) -> None:
    heads = tokens.view(1, TOKENS, 16, 128)
    keys, gates = torch.nn.functional.normalize(heads, dim=-1), heads.sigmoid()
    inputs = (keys, keys, heads, heads.abs().mul_(-0.01), gates, gates)
    cut = TOKENS - 2 * TAIL
    kept: dict[str, Any] = {"output_final_state": True, "backend": "triton"}
    state = gated_delta_rule_2(*(x[:, :cut] for x in inputs), **kept)[1]
    near, near_state = gated_delta_rule_2(*(x[:, cut:].clone() for x in inputs), initial_state=state, **kept)
    far, far_state = gated_delta_rule_2(*inputs, **kept)
    assert near_state is not None
    assert far_state is not None
    for ours, expected in ((far[:, -TAIL:], near[:, -TAIL:]), (far_state, near_state)):
        assert expected.isfinite().all()
        assert expected.any()
        assert_close(ours, expected, 1e-2)
