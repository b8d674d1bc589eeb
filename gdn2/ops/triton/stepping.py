"""What stands around the recurrence in a decoding step, one token a row, as one kernel before it and one behind it.

Before it: the short convolutions of queries, keys and values with their state, and the decay with the second matrix of
its low-rank projection. Behind it: the gated norm with the second matrix of the gate's. They compute what mixing.py and
norm.py do, a row by itself, so that it gives the same bits alone and among others.

Letters: B rows, H heads of queries and keys, D channels of a head, DP the same padded to a power of two, W taps, R
channels of a low-rank projection, RP the same padded, BC channels of a program.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import launchable, launcher_of, on_device_of
from gdn2.ops.triton.mixing import softplus

CHANNELS = 32  # BC


class LowRankDecay(NamedTuple):
    """A decay -exp(A_log) softplus(up f + dt_bias).

    Attributes:
        f: [B, 1, R].
        up: [C, R].
        A_log: [N], each for C / N channels.
        dt_bias: [C].
    """

    f: Tensor
    up: Tensor
    A_log: Tensor
    dt_bias: Tensor


def step_inputs(
    parts: tuple[Tensor, Tensor, Tensor], taps: tuple[Tensor, Tensor, Tensor], tail: Tensor, heads: tuple[int, int],
    decay: LowRankDecay | None, *, activate: bool, unit_length: bool, eps: float, overwrite: bool,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor | None]:  # fmt: skip
    """Convolve one token's queries, keys and values, and make its decay, without gradients.

    Args:
        parts: queries and keys [B, 1, H * D] and values [B, 1, C].
        taps: of each, [channels, 1, W].
        tail: the W - 1 inputs before, of all three side by side, contiguous [B, W - 1, C], in the dtype of the parts.
        heads: channels of a head of queries and keys, and of values.
        decay: what the decay is made of; None: there is none.
        activate: whether silu follows the convolution.
        unit_length: whether heads of queries and keys are then scaled to unit length.
        eps: is added to a head's squared length.
        overwrite: whether the new last inputs are written where the old ones were.

    Returns:
        The three in their shapes, the new last inputs, and the decay in float32 [B, 1, C].
    """
    q, k, v = (launchable(part) for part in parts)
    B, W, (K, V) = len(q), taps[0].shape[-1], heads
    tail = launchable(tail)
    after = tail if overwrite else torch.empty_like(tail)
    found = (torch.empty_like(q), torch.empty_like(k), torch.empty_like(v))
    f, up, A_log, dt_bias = decay if decay is not None else (None, None, None, None)
    C = 0 if decay is None else len(decay.dt_bias)
    g = None if decay is None else torch.empty(B, 1, C, dtype=torch.float32, device=q.device)
    R = 0 if up is None else up.shape[-1]
    constants = {
        "K": K, "KP": max(16, triton.next_power_of_2(K)), "V": V, "VP": max(16, triton.next_power_of_2(V)),
        "H": q.shape[-1] // K, "HV": v.shape[-1] // V, "W": W, "WP": triton.next_power_of_2(max(W - 1, 1)),
        "C": C, "HEAD": 1 if A_log is None else C // len(A_log), "R": R, "RP": max(16, triton.next_power_of_2(R)),
        "BC": CHANNELS, "ACTIVATE": activate, "UNIT": unit_length, "num_warps": 4,
    }  # fmt: skip
    weights = tuple(launchable(each) for each in taps)
    low_rank = tuple(None if part is None else launchable(part) for part in (f, up, A_log, dt_bias))
    arguments = (q, k, v, *weights, tail, after, *low_rank, *found, g)
    kind = tuple(None if part is None else part.dtype for part in arguments)
    launch = launcher_of(step_inputs_kernel, tuple(constants.items()), kind, q.device)
    if B:
        programs = 2 * constants["H"] + constants["HV"] + triton.cdiv(C, CHANNELS)
        with on_device_of(q):
            launch((programs, B, 1), *arguments, eps)
    return found, after, g


def step_output(
    o: Tensor, weight: Tensor, eps: float, low: Tensor, up: Tensor, bias: Tensor | None, *, activation: str
) -> Tensor:
    """Each head of one token's o / rms(o) * weight * activation(up low + bias), without gradients.

    Args:
        o: [B, 1, HV, V].
        weight: [V].
        eps: is added to the mean square.
        low: what the gate is made of, [B, 1, R].
        up: [HV * V, R].
        bias: [HV * V], or None.
        activation: of the gate, "sigmoid" or "silu".

    Returns:
        The shape and dtype of o.
    """
    (B, _, HV, V), R, o = o.shape, up.shape[-1], launchable(o)
    y = torch.empty_like(o)
    bias = None if bias is None else launchable(bias)
    BC = min(CHANNELS, max(16, triton.next_power_of_2(V)))
    constants = {
        "V": V, "VP": max(16, triton.next_power_of_2(V)), "HV": HV, "R": R, "RP": max(16, triton.next_power_of_2(R)),
        "BC": BC, "HAS_BIAS": bias is not None, "SILU": activation == "silu", "num_warps": 4,
    }  # fmt: skip
    arguments = (o, launchable(weight), launchable(low), launchable(up), bias, y)
    kind = tuple(None if part is None else part.dtype for part in arguments)
    launch = launcher_of(step_output_kernel, tuple(constants.items()), kind, o.device)
    if B:
        with on_device_of(o):
            launch((HV * triton.cdiv(V, BC), B, 1), *arguments, eps)
    return y


@triton.jit(do_not_specialize=["eps"])
def step_inputs_kernel(
    p_q, p_k, p_v, p_q_taps, p_k_taps, p_v_taps, p_tail, p_next, p_f, p_up, p_A_log, p_dt_bias,
    p_q_out, p_k_out, p_v_out, p_g, eps,
    K: tl.constexpr, KP: tl.constexpr, V: tl.constexpr, VP: tl.constexpr, H: tl.constexpr, HV: tl.constexpr,
    W: tl.constexpr, WP: tl.constexpr, C: tl.constexpr, HEAD: tl.constexpr, R: tl.constexpr, RP: tl.constexpr,
    BC: tl.constexpr, ACTIVATE: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """One program for each row and head of the queries, of the keys, of the values, or BC channels of the decay."""
    i, i_b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    ALL: tl.constexpr = 2 * H * K + HV * V
    p_tail += i_b * (W - 1) * ALL
    p_next += i_b * (W - 1) * ALL
    if i < H:
        o = i * K
        step_head(p_q + i_b * H * K + o, p_q_taps + o * W, p_tail + o, p_next + o, p_q_out + i_b * H * K + o, eps,
                  K, KP, W, WP, ALL, ACTIVATE, UNIT)  # fmt: skip
    elif i < 2 * H:
        o = (i - H) * K
        first = H * K + o
        step_head(p_k + i_b * H * K + o, p_k_taps + o * W, p_tail + first, p_next + first, p_k_out + i_b * H * K + o,
                  eps, K, KP, W, WP, ALL, ACTIVATE, UNIT)  # fmt: skip
    elif i < 2 * H + HV:
        o = (i - 2 * H) * V
        first = 2 * H * K + o
        step_head(p_v + i_b * HV * V + o, p_v_taps + o * W, p_tail + first, p_next + first,
                  p_v_out + i_b * HV * V + o, eps, V, VP, W, WP, ALL, ACTIVATE, False)  # fmt: skip
    elif C > 0:
        o_c = (i - 2 * H - HV) * BC + tl.arange(0, BC)
        m_c = o_c < C
        b_f = low_rank(p_f + i_b * R, p_up, o_c, m_c, R, RP)
        b_f = b_f.to(p_f.dtype.element_ty).to(tl.float32)  # as a product of its own would give it
        b_rate = tl.exp(tl.load(p_A_log + o_c // HEAD, mask=m_c, other=0.0).to(tl.float32))
        b_f += tl.load(p_dt_bias + o_c, mask=m_c, other=0.0).to(tl.float32)
        tl.store(p_g + i_b * C + o_c, -b_rate * softplus(b_f), mask=m_c)


@triton.jit
def step_head(
    p_x, p_taps, p_tail, p_next, p_y, eps, D: tl.constexpr, DP: tl.constexpr, W: tl.constexpr, WP: tl.constexpr,
    ALL: tl.constexpr, ACTIVATE: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """The convolution of one head's newest input, and the state behind it; ALL channels lie between two inputs."""
    o_d, o_w = tl.arange(0, DP), tl.arange(0, WP)
    m_d = o_d < D
    b_x = tl.load(p_x + o_d, mask=m_d, other=0.0)
    b_y = b_x.to(tl.float32) * tl.load(p_taps + o_d * W + W - 1, mask=m_d, other=0.0).to(tl.float32)
    if W > 1:
        mask = (o_w < W - 1)[:, None] & m_d[None, :]
        at = o_w[:, None] * ALL + o_d[None, :]
        b_tail = tl.load(p_tail + at, mask=mask, other=0.0)
        b_taps = tl.load(p_taps + o_d[None, :] * W + o_w[:, None], mask=mask, other=0.0)
        b_y += tl.sum(b_tail.to(tl.float32) * b_taps.to(tl.float32), axis=0)
        tl.debug_barrier()  # all threads have read before one writes to the same memory
        tl.store(p_next + at - ALL, b_tail, mask=mask & (o_w > 0)[:, None])
        tl.store(p_next + (W - 2) * ALL + o_d, b_x, mask=m_d)
    if ACTIVATE:
        b_y *= tl.sigmoid(b_y)
    if UNIT:
        b_y *= tl.rsqrt(tl.sum(b_y * b_y, axis=0) + eps)
    tl.store(p_y + o_d, b_y.to(p_y.dtype.element_ty), mask=m_d)


@triton.jit
def low_rank(p_low, p_up, o_c, m_c, R: tl.constexpr, RP: tl.constexpr):
    """Channels o_c of the product of a row's R numbers with the matrix [C, R]."""
    o_r = tl.arange(0, RP)
    m_r = o_r < R
    b_low = tl.load(p_low + o_r, mask=m_r, other=0.0).to(tl.float32)
    b_up = tl.load(p_up + o_c[:, None] * R + o_r[None, :], mask=m_c[:, None] & m_r[None, :], other=0.0)
    return tl.sum(b_up.to(tl.float32) * b_low[None, :], axis=1)


@triton.jit(do_not_specialize=["eps"])
def step_output_kernel(
    p_o, p_weight, p_low, p_up, p_bias, p_y, eps,
    V: tl.constexpr, VP: tl.constexpr, HV: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, BC: tl.constexpr,
    HAS_BIAS: tl.constexpr, SILU: tl.constexpr,
):  # fmt: skip
    """One program for each row and BC channels of a head."""
    BLOCKS: tl.constexpr = (V + BC - 1) // BC
    i_h, i_c, i_b = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS, tl.program_id(1).to(tl.int64)
    p_o += i_b * HV * V + i_h * V
    o_v, o_c = tl.arange(0, VP), i_c * BC + tl.arange(0, BC)
    m_c, o_all = o_c < V, i_h * V + o_c
    b_head = tl.load(p_o + o_v, mask=o_v < V, other=0.0).to(tl.float32)
    b_scale = tl.rsqrt(tl.sum(b_head * b_head, axis=0) / V + eps)
    b_gate = low_rank(p_low + i_b * R, p_up, o_all, m_c, R, RP)
    if HAS_BIAS:
        b_gate += tl.load(p_bias + o_all, mask=m_c, other=0.0).to(tl.float32)
    b_gate = b_gate.to(p_y.dtype.element_ty).to(tl.float32)  # as a product of its own would give it
    b_open = tl.sigmoid(b_gate)
    if SILU:
        b_open *= b_gate
    b_y = tl.load(p_o + o_c, mask=m_c, other=0.0).to(tl.float32) * b_scale
    b_y *= tl.load(p_weight + o_c, mask=m_c, other=0.0).to(tl.float32) * b_open
    tl.store(p_y + i_b * HV * V + o_all, b_y.to(p_y.dtype.element_ty), mask=m_c)
