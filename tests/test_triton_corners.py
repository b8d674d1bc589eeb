"""Corners of the Triton backend: empty and single-token inputs, sizes at their ends, offsets beyond 32 bits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from operator_checks import (
    BACKWARD,
    DEVICE,
    FORWARD,
    all_gradients,
    assert_close,
    assert_gradients,
    exact,
    rounded,
    run,
)

from gdn2.ops import gated_delta_rule_2
from gdn2.ops.triton import operator, triton_gated_delta_rule_2
from gdn2.ops.triton.aot.instructions import narrow_addresses
from gdn2.ops.triton.chunkwise import run_forward
from gdn2.ops.triton.gradients import segment_gradients
from gdn2.ops.triton.kernel_set import MAX_PROGRAMS, Call, KernelSet, kernels_for
from gdn2.ops.triton.launch import Launcher
from gdn2.ops.triton.layout import Segment
from gdn2.ops.triton.variants import PREPARE


@pytest.mark.parametrize("T", [1, 17])
def test_one_token_and_one_more_than_the_recurrent_kernel_takes_have_their_gradients(T: int) -> None:
    assert_gradients(rounded(1, T, 2, 8, 6))


@pytest.mark.parametrize(("K", "V"), [(1, 1), (48, 1), pytest.param(96, 48, marks=pytest.mark.slow)])
def test_head_sizes_that_are_no_powers_of_two_down_to_one(K: int, V: int) -> None:
    inputs = rounded(1, 33, 1, K, V)
    for ours, theirs in zip(run(inputs), exact(inputs), strict=True):
        assert_close(ours, theirs, FORWARD)
    assert_gradients(inputs)
    short = [*[x[:, :3] for x in inputs[:6]], inputs[6]]
    for ours, theirs in zip(run(short), exact(short), strict=True):
        assert_close(ours, theirs, FORWARD)


@pytest.mark.parametrize("offsets", [[0, 0, 9, 9, 9], [0, 0, 40, 40, 41, 41], [0, 1, 2, 3]])
def test_empty_sequences_at_both_ends_of_a_pack_keep_their_states(offsets: Any) -> None:
    N, T = len(offsets) - 1, offsets[-1]
    inputs = [*rounded(1, T, 2, 8, 6)[:6], rounded(N, 1, 2, 8, 6, seed=3)[6]]
    packed: dict[str, Any] = {"cu_seqlens": torch.tensor(offsets, dtype=torch.int32)}
    o, final = run(inputs, **packed)
    expected_o, expected_final = exact(inputs, **packed)
    assert_close(o, expected_o, FORWARD)
    assert_close(final, expected_final, FORWARD)
    for n, (start, end) in enumerate(itertools.pairwise(offsets)):
        assert start < end or torch.equal(final[n], inputs[6][n])
    if N == 5:
        assert_gradients(inputs, **packed)


def test_a_pack_of_nothing_but_empty_sequences_returns_the_states() -> None:
    six, state = rounded(1, 0, 2, 8, 6)[:6], rounded(3, 1, 2, 8, 6)[6]
    o, final = run([*six, state], cu_seqlens=torch.tensor([0, 0, 0, 0]))
    assert o.shape == (1, 0, 2, 6)
    assert torch.equal(final, state)
    _, zeros = gated_delta_rule_2(*six, cu_seqlens=torch.tensor([0, 0]), output_final_state=True, backend="triton")
    assert zeros is not None
    assert zeros.shape == (1, 2, 8, 6)
    assert not zeros.any()


def test_no_rows_and_no_heads_are_no_error() -> None:
    for B, H in ((0, 2), (2, 0)):
        o, final = run(rounded(B, 5, H, 8, 6))
        assert o.shape == (B, 5, H, 6)
        assert final.shape == (B, H, 8, 6)


@pytest.mark.parametrize("T", [3, 40])
def test_the_scale_is_one_over_the_root_of_d_k_unless_given_and_may_be_an_integer(
    T: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    *six, state = rounded(1, T, 2, 16, 6)
    seen: list[Any] = []
    launch = Launcher.__call__

    def recorded(self: Any, grid: Any, *arguments: Any) -> Any:
        names = self.kernel.arg_names
        seen.extend(x for name, x in zip(names, arguments, strict=False) if name == "scale")
        launch(self, grid, *arguments)

    monkeypatch.setattr(Launcher, "__call__", recorded)
    default, none = gated_delta_rule_2(*six, initial_state=state, backend="triton")
    assert none is None
    assert torch.equal(default, gated_delta_rule_2(*six, scale=0.25, initial_state=state, backend="triton")[0])
    given, _ = gated_delta_rule_2(*six, scale=2, initial_state=state, backend="triton")
    assert_close(given, 8 * default, FORWARD)
    assert seen
    assert all(type(scale) is float for scale in seen)  # an int would be compiled into the kernel, and stay


@pytest.mark.parametrize("T", [3, 40])
def test_without_an_initial_state_the_final_one_is_that_of_zeros(T: int) -> None:
    *six, state = rounded(2, T, 2, 8, 6)
    o, final = gated_delta_rule_2(*six, output_final_state=True, backend="triton")
    expected_o, expected = exact([*six, torch.zeros_like(state)])
    assert_close(o, expected_o, FORWARD)
    assert final is not None
    assert_close(final, expected, FORWARD)


def test_gradients_of_outputs_alone_and_of_the_state_alone() -> None:
    inputs = rounded(1, 40, 1, 8, 6)
    for index in (0, 1):
        grads = []
        for backend, dtype in (("triton", torch.float32), ("naive", torch.float64)):
            leaves = [x.to(dtype, copy=True).requires_grad_() for x in inputs]
            grads.append(torch.autograd.grad(run(leaves, backend)[index].sum(), leaves, allow_unused=True))
        for ours, theirs in zip(*grads, strict=True):
            assert_close(ours, torch.zeros_like(ours) if theirs is None else theirs, BACKWARD)


def test_only_what_asks_for_gradients_gets_them() -> None:
    inputs = rounded(1, 20, 1, 8, 6)
    expected = all_gradients(inputs, "triton")
    rng = torch.Generator().manual_seed(5)
    d_o, d_state = (torch.randn(x.shape, generator=rng, dtype=torch.float64).to(DEVICE) for x in run(inputs))
    for i in (0, 6):
        leaves = [x.clone() for x in inputs]
        leaves[i].requires_grad_()
        o, state = run(leaves)
        ((o * d_o).sum() + (state * d_state).sum()).backward()
        assert torch.equal(leaves[i].grad, expected[i])


def test_strided_gradients_of_the_outputs_give_the_same_bits() -> None:
    inputs = rounded(1, 40, 2, 8, 6)
    leaves = [x.clone().requires_grad_() for x in inputs]
    o, _ = run(leaves)
    d_o = torch.randn(o.shape, device=DEVICE)
    strided = torch.stack([d_o, d_o], -1)[..., 0]
    assert not strided.is_contiguous()
    expected = torch.autograd.grad(o, leaves, d_o, retain_graph=True)
    assert all(map(torch.equal, torch.autograd.grad(o, leaves, strided), expected))


def test_a_state_in_float64_is_refused_not_rounded() -> None:
    q, k, v, g, b, w, state = rounded(1, 3, 1, 8, 6)
    with pytest.raises(ValueError, match=r"states in float32, got initial_state in torch\.float64"):
        triton_gated_delta_rule_2(q, k, v, g, b, w, 1.0, state.double())


@pytest.mark.parametrize("T", [1, 40])
def test_batches_beyond_65535_heads_are_one_axis_of_programs(T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grids = []
    monkeypatch.setattr(Launcher, "__call__", lambda _self, grid, *_arguments: grids.append(grid))
    six = [torch.zeros(1, 1, 1, 1).expand(700, T, 100, 16) for _ in range(6)]
    monkeypatch.setattr(operator, "launchable", lambda x: x)
    arguments: list[Any] = [*six, 1.0]
    triton_gated_delta_rule_2(*arguments)
    assert grids
    assert all(grid[0] >= 70_000 and grid[1:] == (1, 1) for grid in grids)


def test_more_programs_than_a_launch_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Launcher, "__call__", lambda *_: None)
    kernels = KernelSet(16, 16, "tf32x3", torch.device("cpu"))
    kernels.launch(PREPARE, MAX_PROGRAMS)
    with pytest.raises(ValueError, match="cut the batch into parts"):
        kernels.launch(PREPARE, MAX_PROGRAMS + 1)


def test_addresses_with_32_bit_offsets_are_found() -> None:
    ttir = """
      tt.func public @kernel(%p_q: !tt.ptr<bf16> {tt.divisibility = 16 : i32}, %p_g: !tt.ptr<f32>, %p_n: !tt.ptr<i32>) {
        %0 = tt.addptr %p_n, %c : !tt.ptr<i32>, i32
        %1 = tt.addptr %p_q, %row : !tt.ptr<bf16>, i64
        %2 = tt.splat %1 : !tt.ptr<bf16> -> tensor<64x32x!tt.ptr<bf16>>
        %3 = tt.addptr %2, %tile : tensor<64x32x!tt.ptr<bf16>>, tensor<64x32xi32>
        %4 = tt.splat %p_g : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
        %5 = tt.addptr %4, %all : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
      }"""
    assert narrow_addresses(ttir) == ("p_g",)
    assert narrow_addresses(ttir.replace("i64", "i32")) == ("p_g", "p_q")


@pytest.mark.slow
@pytest.mark.skipif(DEVICE != "cpu", reason="reserves memory that a CPU gives only where it is touched")
def test_tokens_beyond_two_to_the_31_elements_are_read_and_written_in_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("triton.runtime.interpreter.GridExecutor._restore_args_dev", lambda *_: None)  # copies it all
    H, d, tail = 2, 32, 70
    T = 2**31 // (H * d) + 100
    x = torch.empty(1, T, H, d, dtype=torch.float16)
    x[:, T - tail :] = -0.1 * torch.rand(1, tail, H, d)
    starts = torch.tensor([T - tail, T - tail + 32, T - tail + 64])
    lengths, offsets = (torch.tensor(x, dtype=torch.int32) for x in ([32, 32, 6], [0, 3]))
    segment = Segment(starts, lengths, offsets, num_chunks=3, N=1)
    near = Segment(starts - (T - tail), segment.lengths, segment.offsets, num_chunks=3, N=1)
    found = []
    for source, where in ((x, segment), (x[:, T - tail :].clone(), near)):
        arguments: list[Any] = [*[source] * 6, 0.5, kernels_for(*[source] * 6)]
        call = Call(*arguments)
        o, last, _ = run_forward(call, None, (where,))
        gradients: dict[str, torch.Tensor] = {}
        before = segment_gradients(call, where, source, None, None, gradients)
        found.append([last, before, *[y[:, -tail:] for y in (o, *gradients.values())]])
    assert all(y.isfinite().all() and y.any() for y in found[1])
    assert all(map(torch.equal, *found))
