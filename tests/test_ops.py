"""Every backend of the operator against the recurrence written out anew in float64."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from operator_checks import assert_close, make_inputs, oracle

from gdn2.ops import gated_delta_rule_2
from gdn2.ops.chunked import _decay_and_scores, _to_chunks

BACKENDS = ["naive", "chunked"]  # in float64; the kernels' turn in float32 is test_triton.py


FAST_BACKENDS = ["chunked"]


TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


GRADIENT_TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-12}


DECAYS = ["none", "mild", "strong", "mixed", "extreme", "uneven"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("T", [1, 31, 32, 33, 100])
def test_backends_match_the_definition_in_float64(backend: Any, decay: Any, T: int) -> None:
    *inputs, state = make_inputs(2, T, 2, 8, 6, decay)
    o, final = gated_delta_rule_2(*inputs, initial_state=state, output_final_state=True, backend=backend)
    expected_o, expected_state = oracle(*[*inputs, state, 8**-0.5])
    assert_close(o, expected_o, 1e-12)
    assert final is not None
    assert_close(final, expected_state, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("decay", DECAYS)
def test_float32_stays_within_its_tolerance(backend: Any, decay: Any) -> None:
    exact = make_inputs(2, 200, 2, 32, 16, decay)
    rounded = [x.float() for x in exact]
    *inputs, state = rounded
    o, final = gated_delta_rule_2(*inputs, initial_state=state, output_final_state=True, backend=backend)
    *inputs, state = [x.double() for x in rounded]
    expected = gated_delta_rule_2(*inputs, initial_state=state, output_final_state=True, backend="naive")
    assert_close(o, expected[0], TOLERANCE[torch.float32])
    assert final is not None
    assert expected[1] is not None
    assert_close(final, expected[1], TOLERANCE[torch.float32])


@pytest.mark.parametrize("backend", FAST_BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", DECAYS)
def test_gradients_match_autograd_of_the_recurrence(backend: Any, dtype: torch.dtype, decay: Any) -> None:
    rounded = [x.to(dtype) for x in make_inputs(1, 70, 2, 8, 6, decay)]
    rng = torch.Generator().manual_seed(1)
    d_o = torch.randn(1, 70, 2, 6, generator=rng, dtype=torch.float64)
    d_state = torch.randn(1, 2, 8, 6, generator=rng, dtype=torch.float64)

    def gradients(backend: str, dtype: torch.dtype) -> list[Any]:
        leaves = [x.detach().to(dtype, copy=True).requires_grad_() for x in rounded]
        o, state = gated_delta_rule_2(*leaves[:6], initial_state=leaves[6], output_final_state=True, backend=backend)
        assert state is not None
        ((o * d_o.to(dtype)).sum() + (state * d_state.to(dtype)).sum()).backward()
        return [x.grad for x in leaves]

    for name, ours, theirs in zip(
        ["q", "k", "v", "g", "b", "w", "S"], gradients(backend, dtype), gradients("naive", torch.float64), strict=True
    ):
        tolerance = GRADIENT_TOLERANCE[dtype]
        error = (ours.double() - theirs).norm() / theirs.norm().clamp_min(1e-30)
        assert error <= tolerance, f"d{name}: {error:.2e}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_segments_with_carried_state_equal_one_shot(backend: Any) -> None:
    *inputs, state = make_inputs(2, 150, 2, 8, 6)
    whole, final = gated_delta_rule_2(*inputs, initial_state=state, output_final_state=True, backend=backend)
    outputs = []
    for start, end in [(0, 1), (1, 40), (40, 72), (72, 150)]:
        part = [x[:, start:end] for x in inputs]
        o, state = gated_delta_rule_2(*part, initial_state=state, output_final_state=True, backend=backend)
        outputs.append(o)
    assert_close(torch.cat(outputs, 1), whole, 1e-12)
    assert final is not None
    assert_close(state, final, 1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_sequences_equal_separate_ones_even_empty(backend: Any) -> None:
    *inputs, _ = make_inputs(1, 90, 2, 8, 6)
    offsets = [0, 5, 5, 38, 90]
    states = make_inputs(4, 1, 2, 8, 6, seed=3)[-1]
    o, final = gated_delta_rule_2(
        *inputs,
        initial_state=states,
        output_final_state=True,
        cu_seqlens=torch.tensor(offsets),
        backend=backend,
    )
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        part = [x[:, start:end] for x in inputs]
        alone, state = gated_delta_rule_2(
            *part, initial_state=states[i : i + 1], output_final_state=True, backend=backend
        )
        assert torch.allclose(o[:, start:end], alone, rtol=0, atol=1e-12)
        assert final is not None
        assert state is not None
        assert torch.allclose(final[i : i + 1], state, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_op_steps_leave_state_and_outputs_untouched(backend: Any) -> None:
    *inputs, state = make_inputs(2, 40, 2, 8, 6, "none")
    padded = [torch.cat([x, torch.zeros_like(x[:, :9])], 1) for x in inputs]
    o, final = gated_delta_rule_2(*inputs, initial_state=state, output_final_state=True, backend=backend)
    o_padded, final_padded = gated_delta_rule_2(*padded, initial_state=state, output_final_state=True, backend=backend)
    assert torch.equal(o, o_padded[:, :40])
    assert final is not None
    assert final_padded is not None
    assert torch.equal(final, final_padded)


def test_how_a_chunk_is_computed_does_not_depend_on_what_stands_beside_it() -> None:
    alone, beside = (make_inputs(1, 70, 2, 16, 8, decay=d, dtype=torch.float32)[3] for d in ("mild", "strong"))
    chunks = [_to_chunks(g) for g in (alone, torch.cat([alone, beside]))]
    decays = [_decay_and_scores(*[*torch.rand(3, *g.shape), g])[:2] for g in chunks]
    for ours, together in zip(*decays, strict=True):
        assert torch.equal(ours, together[:1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_keys_with_doubled_erase_stay_accurate(backend: Any) -> None:
    *inputs, state = make_inputs(1, 64, 1, 8, 6, "none")
    inputs[1] = inputs[1][:, :1].expand(-1, 64, -1, -1)
    inputs[4] = torch.full_like(inputs[4], 2.0)
    expected, _ = oracle(*[*inputs, state, 8**-0.5])
    o, _ = gated_delta_rule_2(*inputs, initial_state=state, backend=backend)
    assert_close(o, expected, 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_growing_transitions_are_followed_not_assumed_away(backend: Any) -> None:
    """Channel-wise erase gates need not contract (period-2 map of spectral radius 5/4)."""
    angles = torch.tensor([116.565, 153.435], dtype=torch.float64).deg2rad().repeat(20)
    k = torch.stack([angles.cos(), angles.sin()], -1)[None, :, None, :]
    b = torch.eye(2, dtype=torch.float64).repeat(20, 1)[None, :, None, :]
    zeros = torch.zeros_like(k)
    state = torch.eye(2, dtype=torch.float64)[None, None]
    _, final = gated_delta_rule_2(
        k, k, zeros, zeros, b, zeros, initial_state=state, output_final_state=True, backend=backend
    )
    _, expected = oracle(k, k, zeros, zeros, b, zeros, state, 1.0)
    assert expected.norm() > 50
    assert final is not None
    assert_close(final, expected, 1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_decay_forgets_and_nan_stays_in_its_row(backend: Any) -> None:
    *inputs, state = make_inputs(2, 40, 2, 8, 6)
    inputs[3][:, 20] = -torch.inf
    o, _ = gated_delta_rule_2(*inputs, initial_state=state, backend=backend)
    fresh, _ = gated_delta_rule_2(*[x[:, 20:] for x in inputs], backend=backend)
    assert torch.allclose(o[:, 20:], fresh, rtol=0, atol=1e-12)
    inputs[1][0, 30, 0, 0] = torch.nan
    poisoned, _ = gated_delta_rule_2(*inputs, initial_state=state, backend=backend)
    assert poisoned[0, 31:, 0].isnan().all()
    assert torch.equal(poisoned[1].isnan().any(), torch.tensor(False))


def test_half_precision_inputs_keep_a_float32_state() -> None:
    *inputs, _ = [x.bfloat16() for x in make_inputs(1, 40, 2, 8, 6)]
    o, state = gated_delta_rule_2(*inputs, output_final_state=True)
    assert o.dtype == torch.bfloat16
    assert state is not None
    assert state.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": (1, 8, 2, 5)}, r"k must be \[B, T, H, d_k\] = \[1, 8, 2, 4\], got \[1, 8, 2, 5\]"),
        ({"w": (1, 8, 2, 4)}, r"w must be \[B, T, H, d_v\] = \[1, 8, 2, 3\]"),
        ({"q": (8, 2, 4)}, "q must have 4 dimensions"),
        ({"initial_state": (2, 2, 4, 3)}, r"initial_state must be \[N, H, d_k, d_v\] = \[1, 2, 4, 3\]"),
    ],
)
def test_wrong_shapes_name_the_argument_and_what_fits(change: Any, words: str) -> None:
    shapes = dict.fromkeys("qkgb", (1, 8, 2, 4)) | dict.fromkeys("vw", (1, 8, 2, 3)) | change
    tensors: dict[str, Any] = {name: torch.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=words):
        gated_delta_rule_2(**tensors)


@pytest.mark.parametrize(
    ("offsets", "words"),
    [([1, 8], "start at 0"), ([0, 7], "end at T = 8"), ([0, 6, 4, 8], "backwards"), ([0], "at least two")],
)
def test_wrong_offsets_are_refused(offsets: Any, words: str) -> None:
    *inputs, _ = make_inputs(1, 8, 1, 4, 4)
    with pytest.raises(ValueError, match=words):
        gated_delta_rule_2(*inputs, cu_seqlens=torch.tensor(offsets))


def test_positive_log_decay_and_unknown_backends_are_refused() -> None:
    *inputs, _ = make_inputs(1, 8, 1, 4, 4)
    with pytest.raises(ValueError, match="backend must be one of auto, naive, chunked"):
        gated_delta_rule_2(*inputs, backend="cuda")
    inputs[3][0, 3, 0, 1] = 0.5
    for other in (-0.5, float("nan")):
        inputs[3][0, 0, 0, 0] = other
        with pytest.raises(ValueError, match="log-decay <= 0"):
            gated_delta_rule_2(*inputs)
