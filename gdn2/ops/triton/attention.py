"""A decoding step of softmax attention: the new token's rotation, its slot, and its look at all slots as they lie.

Slots are a ring, or as many as the text has tokens and more (gdn2/mixers/slots.py); a row of n tokens has filled the
first min(n, S). Keys and values are read once for all query heads of their group. A text is cut into parts of PART
slots, whatever the batch, so that a row gives the same bits alone and among others; a second kernel joins the parts.

Letters: B rows, H query heads, G key and value heads, R heads of a group, D channels of a head, DP the same padded to a
power of two, S slots, N parts of them, BS slots of a block.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from gdn2.ops.triton.launch import is_aligned, launchable, launcher_of, on_device_of

PART = 256  # slots of a program
MAX_HEAD, MAX_GROUP = 256, 64  # channels of a head, heads of a group
HEADS = 8  # of a program that rotates
LOG2_E = 1.4426950408889634
PART_SLOTS = tl.constexpr(PART)
HEADS_OF_BLOCK = tl.constexpr(HEADS)
JOINED = tl.constexpr(16)  # parts that are joined together


def fits(head_dim: int, group: int) -> bool:
    """Whether there are kernels for heads of that many channels, so many to a key."""
    return head_dim <= MAX_HEAD and group <= MAX_GROUP


def tile_of(channels: int, size: int, group: int) -> dict[str, int]:
    """The slots that a program looks at together and its warps, for heads of so many numbers of so many bytes."""
    most = 8 << 10 if group > 1 and size > 2 else 16 << 10
    return {"BS": max(16, min(64, most // (channels * size))), "num_warps": 8 if channels * size > 512 else 4}


def attend(q: Tensor, keys: Tensor, values: Tensor, before: Tensor, scale: float | None) -> Tensor:
    """Attend with one query a head to the slots of its row, without gradients.

    Args:
        q: [B, H, D].
        keys: [B, S, G, D]; any memory in which a head's channels lie together.
        values: [B, S, G, D].
        before: tokens of each row before this one, int64 [B]; its own key and value are in their slot already.
        scale: of the products of queries and keys; 1 / sqrt(D) by default.

    Returns:
        [B, H, D] in the dtype of q.
    """
    (B, H, D), S, G = q.shape, keys.shape[1], keys.shape[2]
    q, (keys, values, strides) = launchable(q), _in_heads(keys, values)
    o = torch.empty_like(q)
    if not q.numel():
        return o
    N, R, DP = triton.cdiv(S, PART), H // G, max(16, triton.next_power_of_2(D))
    parts = torch.empty(B, H, N, D, dtype=torch.float32, device=q.device)
    sums = torch.empty(B, H, N, 2, dtype=torch.float32, device=q.device)
    scale = LOG2_E * (1 / math.sqrt(D) if scale is None else scale)
    constants = {"D": D, "DP": DP, "R": R, "RP": 1 if R == 1 else max(16, triton.next_power_of_2(R))}
    constants |= tile_of(DP, keys.element_size(), R)
    joins = (("D", D), ("DP", DP), ("num_warps", 4))
    kind = (q.dtype, keys.dtype, values.dtype, is_aligned(keys, values))
    with on_device_of(q):
        launcher_of(attend_kernel, tuple(constants.items()), kind, q.device)(
            (N, G, B), q, keys, values, before, parts, sums, S, G, N, *strides, scale
        )
        launcher_of(join_kernel, joins, (q.dtype,), q.device)((H, B, 1), parts, sums, before, o, S, H, N)
    return o


def rotate_and_store(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, before: Tensor,
    *, turns: tuple[Tensor, Tensor] | None,
) -> Tensor:  # fmt: skip
    """Rotate one token's queries and key, and write key and value into their slot of memory, without gradients.

    Args:
        q: [B, H, D].
        k: [B, G, D].
        v: [B, G, D].
        keys: [B, S, G, D], of which slot `before` modulo S is written; any memory in which a head's channels lie
            together.
        values: [B, S, G, D].
        before: tokens of each row before this one, int64 [B].
        turns: cosines and sines of the angles of channels i and i + n / 2, float32 [B, n / 2]; None: no rotation.

    Returns:
        The queries [B, H, D].
    """
    (B, H, D), S, G = q.shape, keys.shape[1], keys.shape[2]
    q, k, v = launchable(q), launchable(k), launchable(v)
    memory, others, strides = _in_heads(keys, values)
    turned = torch.empty_like(q)
    if not q.numel():
        return turned
    cos, sin = (None, None) if turns is None else (launchable(turns[0]), launchable(turns[1]))
    constants = {"D": D, "DP": max(16, triton.next_power_of_2(D)), "HALF": 0 if cos is None else cos.shape[-1]}
    kind = (q.dtype, k.dtype, v.dtype, keys.dtype, values.dtype, is_aligned(keys, values))
    launch = launcher_of(rotate_kernel, (*constants.items(), ("num_warps", 4)), kind, q.device)
    blocks = triton.cdiv(H, HEADS) + 2 * triton.cdiv(G, HEADS)
    with on_device_of(q):
        launch((blocks, B, 1), q, k, v, cos, sin, before, turned, memory, others, S, H, G, *strides)
    if memory is not keys:
        keys.copy_(memory)
        values.copy_(others)
    return turned


def _in_heads(keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, tuple[int, int, int]]:
    """Keys and values as kernels take them, and their strides of rows, slots and heads, counted in heads' channels."""
    D = keys.shape[-1]
    if keys.stride() != values.stride() or keys.stride(3) != 1 or any(stride % D for stride in keys.stride()[:3]):
        keys, values = keys.contiguous(), values.contiguous()
    row, slot, head = (stride // D for stride in keys.stride()[:3])
    return keys, values, (row, slot, head)


@triton.jit(do_not_specialize=["S", "G", "N", "row", "slot", "head", "scale"])
def attend_kernel(
    p_q, p_k, p_v, p_before, p_part, p_sum, S, G, N, row: tl.int64, slot, head, scale,
    D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr, RP: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """One program for each part of the slots, key head and row; its sums are those of exp2(scores - their maximum)."""
    i_n, i_g, i_b = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    count = tl.minimum(tl.load(p_before + i_b) + 1, S).to(tl.int32)
    first = i_n * PART_SLOTS
    if first < count:
        o_d, o_r, o_s = tl.arange(0, DP), tl.arange(0, RP), tl.arange(0, BS)
        m_d, m_r = o_d < D, o_r < R
        base, step = (i_b * row + i_g * head) * D, slot.to(tl.int64) * D
        i_h = (i_b * G + i_g) * R + o_r
        b_q = tl.load(p_q + i_h[:, None] * D + o_d[None, :], mask=m_r[:, None] & m_d[None, :], other=0.0)
        b_max = tl.full([RP], float("-inf"), dtype=tl.float32)
        b_sum = tl.zeros([RP], dtype=tl.float32)
        b_o = tl.zeros([RP, DP], dtype=tl.float32)
        for start in range(first, tl.minimum(first + PART_SLOTS, count), BS):
            filled = start + o_s < count
            at = base + start * step
            offsets = o_s[:, None] * (slot * D) + o_d[None, :]
            mask = filled[:, None] & m_d[None, :]
            b_k = tl.load(p_k + at + offsets, mask=mask, other=0.0)
            b_v = tl.load(p_v + at + offsets, mask=mask, other=0.0)
            if RP == 1:
                b_s = tl.sum(b_k.to(tl.float32) * b_q.to(tl.float32), axis=1)[None, :]
            else:
                b_s = tl.dot(b_q, tl.trans(b_k.to(b_q.dtype)), input_precision="ieee")
            b_s = tl.where(filled[None, :], b_s * scale, float("-inf"))
            b_new = tl.maximum(b_max, tl.max(b_s, axis=1))
            b_p = tl.exp2(b_s - b_new[:, None])
            b_old = tl.exp2(b_max - b_new)
            b_sum = b_sum * b_old + tl.sum(b_p, axis=1)
            if RP == 1:
                b_seen = tl.sum(tl.reshape(b_p, [BS, 1]) * b_v.to(tl.float32), axis=0)[None, :]
            else:
                b_seen = tl.dot(b_p.to(b_v.dtype), b_v, input_precision="ieee")
            b_o = b_o * b_old[:, None] + b_seen
            b_max = b_new
        i_part = i_h * N + i_n
        tl.store(p_part + i_part[:, None] * D + o_d[None, :], b_o, mask=m_r[:, None] & m_d[None, :])
        tl.store(p_sum + 2 * i_part, b_max, mask=m_r)
        tl.store(p_sum + 2 * i_part + 1, b_sum, mask=m_r)


@triton.jit(do_not_specialize=["S", "H", "N"])
def join_kernel(p_part, p_sum, p_before, p_o, S, H, N, D: tl.constexpr, DP: tl.constexpr):
    """One program for each query head and row."""
    i_h, i_b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    count = tl.minimum(tl.load(p_before + i_b) + 1, S).to(tl.int32)
    parts = tl.cdiv(count, PART_SLOTS)
    o_d, o_n = tl.arange(0, DP), tl.arange(0, JOINED)
    m_d = o_d < D
    head = i_b * H + i_h
    first = head * N
    most, total = -float("inf"), 0.0
    b_o = tl.zeros([DP], dtype=tl.float32)
    for start in range(0, parts, JOINED):
        m_n = start + o_n < parts
        at = first + start + o_n
        b_max = tl.load(p_sum + 2 * at, mask=m_n, other=float("-inf"))
        b_sum = tl.load(p_sum + 2 * at + 1, mask=m_n, other=0.0)
        b_part = tl.load(p_part + at[:, None] * D + o_d[None, :], mask=m_n[:, None] & m_d[None, :], other=0.0)
        new = tl.maximum(most, tl.max(b_max, axis=0))
        b_weight, old = tl.exp2(b_max - new), tl.exp2(most - new)
        total = total * old + tl.sum(b_weight * b_sum, axis=0)
        b_o = b_o * old + tl.sum(b_weight[:, None] * b_part, axis=0)
        most = new
    tl.store(p_o + head * D + o_d, (b_o / total).to(p_o.dtype.element_ty), mask=m_d)


@triton.jit(do_not_specialize=["S", "H", "G", "row", "slot", "head"])
def rotate_kernel(
    p_q, p_k, p_v, p_cos, p_sin, p_before, p_turned, p_keys, p_values, S, H, G, row: tl.int64, slot, head,
    D: tl.constexpr, DP: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """One program for each row and some heads of the queries, or of the keys, or of the values."""
    i_block, i_b = tl.program_id(0), tl.program_id(1).to(tl.int64)
    of_q, of_k = tl.cdiv(H, HEADS_OF_BLOCK), tl.cdiv(G, HEADS_OF_BLOCK)
    o_h, o_d = tl.arange(0, HEADS_OF_BLOCK), tl.arange(0, DP)
    at = (i_b * row + (tl.load(p_before + i_b) % S) * slot) * D
    if i_block < of_q:
        heads = i_block * HEADS_OF_BLOCK + o_h
        mask = (heads < H)[:, None] & (o_d < D)[None, :]
        b_x = turned(p_q + i_b * H * D, p_cos, p_sin, i_b, heads, o_d, mask, D, HALF)
        o = i_b * H * D + heads[:, None] * D + o_d[None, :]
        tl.store(p_turned + o, b_x.to(p_turned.dtype.element_ty), mask=mask)
    elif i_block < of_q + of_k:
        heads = (i_block - of_q) * HEADS_OF_BLOCK + o_h
        mask = (heads < G)[:, None] & (o_d < D)[None, :]
        b_x = turned(p_k + i_b * G * D, p_cos, p_sin, i_b, heads, o_d, mask, D, HALF)
        o = at + (heads.to(tl.int64) * head * D)[:, None] + o_d[None, :]
        tl.store(p_keys + o, b_x.to(p_keys.dtype.element_ty), mask=mask)
    else:
        heads = (i_block - of_q - of_k) * HEADS_OF_BLOCK + o_h
        mask = (heads < G)[:, None] & (o_d < D)[None, :]
        b_x = tl.load(p_v + i_b * G * D + heads[:, None] * D + o_d[None, :], mask=mask, other=0.0).to(tl.float32)
        o = at + (heads.to(tl.int64) * head * D)[:, None] + o_d[None, :]
        tl.store(p_values + o, b_x.to(p_values.dtype.element_ty), mask=mask)


@triton.jit
def turned(p_x, p_cos, p_sin, i_b, heads, o_d, mask, D: tl.constexpr, HALF: tl.constexpr):
    """Heads [heads, channels] whose channels i and i + HALF are turned by the i-th angle, for i below HALF."""
    b_x = tl.load(p_x + heads[:, None] * D + o_d[None, :], mask=mask, other=0.0).to(tl.float32)
    if HALF > 0:
        rotates = o_d < 2 * HALF
        other = tl.where(o_d < HALF, o_d + HALF, o_d - HALF)
        b_other = tl.load(
            p_x + heads[:, None] * D + other[None, :], mask=mask & rotates[None, :], other=0.0
        ).to(tl.float32)  # fmt: skip
        o_angle = i_b * HALF + tl.where(o_d < HALF, o_d, o_d - HALF)
        b_cos = tl.load(p_cos + o_angle, mask=rotates, other=1.0)
        b_sin = tl.load(p_sin + o_angle, mask=rotates, other=0.0)
        b_sin = tl.where(o_d < HALF, -b_sin, b_sin)
        b_x = b_x * b_cos[None, :] + b_other * b_sin[None, :]
    return b_x
