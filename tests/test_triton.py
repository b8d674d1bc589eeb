"""The Triton backend against the float64 recurrence: on a GPU natively, elsewhere in Triton's interpreter.

Tolerances are float32's: products of three tf32 parts keep it. The interpreter multiplies in float32 whatever is asked,
and has no bfloat16 product; bfloat16 and the assembler's work are tested by the cases marked gpu.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from operator_checks import (
    FORWARD,
    all_gradients,
    assert_close,
    assert_gradients,
    exact,
    oracle,
    rounded,
    run,
)
from torch import Tensor

from gdn2.ops import gated_delta_rule_2
from gdn2.ops.triton import chunkwise, gradients, layout, operator, triton_gated_delta_rule_2
from gdn2.ops.triton.aot.instructions import unwritten_registers
from gdn2.ops.triton.kernel_set import Call, KernelSet, kernels_for
from gdn2.ops.triton.tiles import tiles_for
from gdn2.ops.triton.variants import SCAN_OUTPUT, SCAN_OUTPUT_WIDE, VARIANTS


@pytest.mark.parametrize("decay", ["none", "mild", "strong", "mixed", "extreme"])
@pytest.mark.parametrize("T", [1, 15, 17, 32, 33, 70])
def test_outputs_and_states_match_the_definition(decay: str, T: int) -> None:
    inputs = rounded(2, T, 2, 8, 6, decay=decay)
    arguments: list[Any] = [*(x.double().cpu() for x in inputs), 8**-0.5]
    expected_o, expected_state = oracle(*arguments)
    o, state = run(inputs)
    assert_close(o.cpu(), expected_o, FORWARD)
    assert_close(state.cpu(), expected_state, FORWARD)


@pytest.mark.parametrize("decay", ["none", "mild", "strong", "mixed", "extreme"])
def test_every_gradient_matches_autograd_of_the_recurrence(decay: str) -> None:
    assert_gradients(rounded(1, 70, 2, 8, 6, decay=decay))


@pytest.mark.parametrize(("K", "V"), [(32, 64), (64, 32), (128, 24), (24, 40), (192, 16), (256, 16), (16, 96)])
def test_head_sizes_up_to_256_and_no_powers_of_two(K: int, V: int) -> None:
    inputs = rounded(1, 35, 1, K, V)
    for ours, theirs in zip(run(inputs), exact(inputs), strict=True):
        assert_close(ours, theirs, FORWARD)
    assert_gradients(inputs)


def test_half_precision_inputs_are_as_exact_as_their_rounding() -> None:
    inputs = rounded(1, 50, 2, 32, 16, dtype=torch.float16)
    o, state = run(inputs)
    assert o.dtype == torch.float16
    assert state.dtype == torch.float32
    expected_o, expected_state = exact(inputs)
    assert_close(o, expected_o, 2e-3)
    assert_close(state, expected_state, 2e-3)


@pytest.mark.parametrize("decay", ["none", "mild", "strong"])
def test_the_recurrent_kernel_agrees_with_the_chunkwise_ones(decay: str) -> None:
    q, k, v, g, b, w, state = rounded(2, 40, 2, 16, 16, decay=decay)
    o, last = operator.run_recurrent(Call(q, k, v, g, b, w, 0.25, kernels_for(q, k, v, g, b, w)), state)
    chunk_o, chunk_last = triton_gated_delta_rule_2(q, k, v, g, b, w, 0.25, state)
    assert_close(o, chunk_o, FORWARD)
    assert_close(last, chunk_last, FORWARD)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Segments of two chunks."""
    monkeypatch.setattr(layout, "SEGMENT_TOKEN_HEADS", 2 * 2 * 32)
    layout.segments_of.cache_clear()
    yield
    layout.segments_of.cache_clear()


@pytest.mark.usefixtures("short_segments")
def test_several_segments_equal_one_forward_and_backward() -> None:
    inputs = rounded(1, 200, 2, 8, 6)
    assert len(layout.segments_of(None, 1, 200, 2, 32, inputs[0].device)) == 4
    for ours, theirs in zip(run(inputs), exact(inputs), strict=True):
        assert_close(ours, theirs, FORWARD)
    assert_gradients(inputs)


@pytest.mark.parametrize("segments", ["one", "several"])
def test_the_scan_of_many_sequences_computes_what_that_of_few_does(
    segments: str, request: pytest.FixtureRequest
) -> None:
    if segments == "several":
        request.getfixturevalue("short_segments")
    q, k, v, g, b, w, state = inputs = rounded(2, 100, 2, 16, 80)
    launched = []
    precision, device = kernels_for(q, k, v, g, b, w).precision, q.device
    kernels = KernelSet(16, 80, precision, device, few_programs=0, on_launch=lambda *launch: launched.append(launch[0]))
    found = triton_gated_delta_rule_2(q, k, v, g, b, w, 16**-0.5, state, kernels=kernels)
    for ours, theirs in zip(found, exact(inputs), strict=True):
        assert_close(ours, theirs, FORWARD)
    assert SCAN_OUTPUT_WIDE in launched
    assert SCAN_OUTPUT not in launched


def test_pieces_with_carried_state_equal_one_shot() -> None:
    *six, state = inputs = rounded(2, 100, 2, 8, 6)
    whole, final = exact(inputs)
    outputs = []
    for start, end in [(0, 1), (1, 40), (40, 72), (72, 100)]:
        o, state = run([*[x[:, start:end] for x in six], state])
        outputs.append(o)
    assert_close(torch.cat(outputs, 1), whole, FORWARD)
    assert_close(state, final, FORWARD)


def test_packed_sequences_equal_separate_ones_with_their_gradients() -> None:
    offsets = [0, 5, 5, 38, 90]
    six, states = rounded(1, 90, 2, 8, 6)[:6], rounded(4, 1, 2, 8, 6, seed=3)[6]
    packed: dict[str, Any] = {"cu_seqlens": torch.tensor(offsets)}
    o, final = run([*six, states], **packed)
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        alone, state = run([*[x[:, start:end] for x in six], states[i : i + 1]])
        assert_close(o[:, start:end], alone, FORWARD)
        assert_close(final[i : i + 1], state, FORWARD)
    assert_gradients([*six, states], **packed)


@pytest.mark.parametrize("gate", ["no erase", "no write", "doubled erase"])
def test_gates_at_their_ends(gate: str) -> None:
    inputs = rounded(1, 50, 2, 8, 6)
    if gate == "no erase":
        inputs[4] = torch.zeros_like(inputs[4])
    elif gate == "no write":
        inputs[5] = torch.zeros_like(inputs[5])
    else:
        inputs[4] = 2 * inputs[4]
    for ours, theirs in zip(run(inputs), exact(inputs), strict=True):
        assert_close(ours, theirs, FORWARD)
    assert_gradients(inputs)


def test_identical_keys_with_doubled_erase_stay_accurate() -> None:
    inputs = rounded(1, 64, 1, 8, 6, decay="none")
    inputs[1] = inputs[1][:, :1].expand(-1, 64, -1, -1)
    inputs[4] = torch.full_like(inputs[4], 2.0)
    assert_close(run(inputs)[0], exact(inputs)[0], 2e-5)  # nothing is forgotten: rounding adds up over 64 steps


def test_no_op_steps_leave_state_and_outputs_untouched() -> None:
    *six, state = rounded(2, 40, 2, 8, 6, decay="none")
    padded = [torch.cat([x, torch.zeros_like(x[:, :9])], 1) for x in six]
    o, final = run([*six, state])
    o_padded, final_padded = run([*padded, state])
    assert torch.equal(o, o_padded[:, :40])
    assert torch.equal(final, final_padded)


def test_infinite_decay_forgets_and_nan_stays_in_its_row() -> None:
    *six, state = rounded(2, 40, 2, 8, 6)
    six[3][:, 20] = -torch.inf
    o, _ = run([*six, state])
    fresh, _ = gated_delta_rule_2(*[x[:, 20:] for x in six], backend="triton")
    assert_close(o[:, 20:], fresh, FORWARD)
    six[1][0, 30, 0, 0] = torch.nan
    poisoned, _ = run([*six, state])
    assert poisoned[0, 31:, 0].isnan().all()
    assert not poisoned[1].isnan().any()


def test_a_decay_above_zero_gives_nan_where_nobody_looked() -> None:
    *six, state = rounded(1, 40, 1, 8, 6)
    six[3][0, 30, 0, 2] = 0.5
    with pytest.raises(ValueError, match="log-decay <= 0"):
        gated_delta_rule_2(*[x.cpu() for x in six], backend="chunked")
    arguments: list[Any] = [*six, 1.0, state]
    o, _ = triton_gated_delta_rule_2(*arguments)
    assert o[0, 30:].isnan().all()


def test_no_initial_state_is_a_state_of_zeros_and_empty_inputs_return_it() -> None:
    *six, state = rounded(2, 40, 2, 8, 6)
    o, final = gated_delta_rule_2(*six, output_final_state=True, backend="triton")
    zero_o, zero_final = run([*six, torch.zeros_like(state)])
    assert torch.equal(o, zero_o)
    assert final is not None
    assert torch.equal(final, zero_final)
    empty, same = run([*[x[:, :0] for x in six], state])
    assert empty.shape == (2, 0, 2, 6)
    assert torch.equal(same, state)


def test_strided_and_misaligned_inputs_give_the_same_bits() -> None:
    inputs = rounded(1, 40, 2, 8, 6)
    strided = [torch.stack([x, x], -1)[..., 0] for x in inputs]
    assert not any(x.is_contiguous() for x in strided)
    shifted = [torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape) for x in inputs]
    expected = run(inputs)
    for variant in (strided, shifted):
        assert all(torch.equal(a, e) for a, e in zip(run(variant), expected, strict=True))


def test_every_number_that_is_read_was_written_and_two_runs_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = rounded(1, 70, 2, 24, 20)
    expected = [*run(inputs), *all_gradients(inputs, "triton")]
    assert all(torch.equal(a, e) for a, e in zip(run(inputs), expected[:2], strict=True))
    empty, empty_like, empty_state = KernelSet.empty, torch.empty_like, KernelSet.empty_state

    def poison(x: Tensor) -> Tensor:
        return x.fill_(torch.nan if x.is_floating_point() else 7)

    monkeypatch.setattr(KernelSet, "empty", lambda *a: poison(empty(*a)))
    monkeypatch.setattr(KernelSet, "empty_state", lambda *a: poison(empty_state(*a)))
    for module in (chunkwise, gradients, operator):
        monkeypatch.setattr(module.torch, "empty_like", lambda x: poison(empty_like(x)))
    again = [*run(inputs), *all_gradients(inputs, "triton")]
    assert all(torch.equal(a, e) for a, e in zip(again, expected, strict=True))


def test_wrong_inputs_are_refused_by_name() -> None:
    inputs = rounded(1, 20, 1, 8, 6)
    with pytest.raises(ValueError, match="takes float32, bfloat16 and float16, got q in"):
        run([x.double() for x in inputs])
    with pytest.raises(ValueError, match="d_k from 1 to 256, got q with d_k = 257"):
        run(rounded(1, 2, 1, 257, 6))
    with pytest.raises(ValueError, match="backend must be one of"):
        run(inputs, backend="cuda")


def test_the_backend_is_chosen_by_argument_then_environment_then_device(monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn2.ops.backends import resolve_backend

    assert resolve_backend("auto", 100, "cpu") == "chunked"
    monkeypatch.setenv("GDN2_BACKEND", "naive")
    assert resolve_backend("auto", 100, "cpu") == "naive"
    assert resolve_backend("chunked", 100, "cpu") == "chunked"
    monkeypatch.delenv("GDN2_BACKEND")
    assert resolve_backend("auto", 1, "cuda", torch.bfloat16) == "triton"
    assert resolve_backend("auto", 100, "cuda", torch.float64) == "chunked"
    assert resolve_backend("auto", 100, "cuda", torch.bfloat16, key_dim=512) == "chunked"
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="needs tensors on a CUDA device, got cpu"):
        resolve_backend("triton", 100, "cpu")


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=str)
def test_tiles_divide_every_padded_head_size(variant: Any) -> None:
    for K, V, precision, arch in itertools.product((16, 32, 64, 128, 256), (16, 64, 192), ("bf16", "tf32"), (80, 90)):
        for tile in tiles_for(variant, K, V, precision, arch):
            assert K % tile.get("BK", 1) == V % tile.get("BV", 1) == 0
            assert K % tile.get("BN", 1) == V % tile.get("BN", 1) == 0


def test_registers_read_before_they_are_written_are_found() -> None:
    sass = """
        /*0010*/    UMOV UR4, 0x400 ;       /* 0x0 */
        /*0020*/    USHF.R.U32.HI UR5, URZ, 0x4, UR4 ;
        /*0030*/    HGMMA.64x32x16.F32.BF16 R24, R92, gdesc[UR4], R24 ;
        /*0040*/    UIADD3 UR8, UP1, UR9, 0x2, URZ ;
    """
    copies = "/*0050*/ LDGSTS.E.BYPASS.128 [R3+UR4], desc[UR5][R4.64] ;\n/*0060*/ LDG.E R2, desc[UR4][R4.64] ;"
    assert unwritten_registers(sass + copies) == (
        "UR6 in HGMMA.64x32x16.F32.BF16",
        "UR7 in HGMMA.64x32x16.F32.BF16",
        "UR9 in UIADD3",
    )


@pytest.mark.gpu
@pytest.mark.parametrize(
    "shape",
    [(2, 300, 4, 128, 128), (1, 333, 2, 64, 64), (1, 130, 2, 32, 96), (1, 150, 1, 256, 256), (1, 90, 2, 32, 32)],
)
def test_bfloat16_on_a_gpu(shape: Any) -> None:
    inputs = rounded(*shape, dtype=torch.bfloat16)
    for ours, theirs in zip(run(inputs), exact(inputs), strict=True):
        assert_close(ours, theirs, 8e-3)
    assert_gradients(inputs, 1.3e-2)
    assert all(torch.equal(a, e) for a, e in zip(run(inputs), run(inputs), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("d", [64, 128])
def test_a_row_gives_the_same_bits_alone_and_among_others_on_a_gpu(d: int, dtype: torch.dtype) -> None:
    inputs = rounded(24, 300, 4, d, d, dtype=dtype)
    together = run(inputs)
    for row in (0, 23):
        alone = run([x[row : row + 1] for x in inputs])
        assert all(torch.equal(a[0], t[row]) for a, t in zip(alone, together, strict=True))
