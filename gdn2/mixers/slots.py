"""The slots of attention's states: where new tokens are put, and one new token's look at them.

A state has a slot for each token, or is a ring that has one for each of the last ones. In both the token at position p
is in slot p modulo the number of slots, and a row of n tokens fills the first min(n, S): whoever looks at all of them
need not know which is which, since keys carry their positions and a softmax has no order.

Letters: B batch, T tokens, S slots, H query heads, G key and value heads, d channels of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gdn2.ops.fused import fuses
from gdn2.ops.overwriting import may_overwrite_slots
from gdn2.padding import Positions

FULL_ENOUGH = 0.8  # of the slots that all rows would look at together; where fewer are filled, rows look one by one


def with_tokens(old: Tensor, new: Tensor, positions: Positions) -> Tensor:
    """The slots of full attention with new tokens in them.

    Args:
        old: the slots before [B, S, ...]. Where they may be overwritten and there is room for all tokens, they are.
        new: what is put into the slots of the new tokens, [B, T, ...]; at padding it does not matter.
        positions: where the tokens are.

    Returns:
        At least as many slots as the longest row has tokens; those behind a row's end are 0.
    """
    if may_overwrite_slots() and (is_planned(new, positions) or positions.longest <= old.shape[1]):
        return _put(old, new, positions)
    if positions.first and positions.aligned:
        return new
    memory = new.new_zeros(old.shape[0], positions.longest, *old.shape[2:])
    kept = min(old.shape[1], positions.longest)
    memory[:, :kept] = old[:, :kept]
    return _put(memory, new, positions)


def with_newest(ring: Tensor, new: Tensor, positions: Positions) -> Tensor:
    """A ring [B, S, ...] with the newest of its old and the new tokens [B, T, ...] in it.

    It is the same memory where that may be overwritten, and the old ring where nobody wants the new one.
    """
    if not positions.kept and not positions.is_step:  # a step looks at itself in its slot
        return ring
    return _put(ring if may_overwrite_slots() else ring.clone(), new, positions)


def is_planned(new: Tensor, positions: Positions) -> bool:
    """Whether this is a step of one token on a GPU, for which whoever lets it overwrite its state has made room.

    Nothing may wait for the device then: the step may be part of a CUDA graph.
    """
    return new.is_cuda and positions.is_step


def seen_slots(slots: int, x: Tensor, positions: Positions) -> int:
    """How many of so many slots have to be looked at behind x's tokens: where it is known, no more than are filled."""
    if may_overwrite_slots() and is_planned(x, positions):
        return slots
    return min(slots, positions.longest)


def attend_newest(q: Tensor, keys: Tensor, values: Tensor, positions: Positions, scale: float | None) -> Tensor:
    """One new token's softmax attention to all tokens in the slots, among which it is already.

    Args:
        q: [B, 1, H, d].
        keys: [B, S, G, d].
        values: [B, S, G, d].
        positions: of a step of one token without padding.
        scale: of the products of queries and keys; 1 / sqrt(d) by default.

    Returns:
        [B, 1, H, d].
    """
    if fuses(q, keys, values) and has_kernels(q.shape[3], q.shape[2] // keys.shape[2]):
        from gdn2.ops.triton.attention import attend

        return attend(q[:, 0], keys, values, positions.before, scale)[:, None]
    S, G = seen_slots(keys.shape[1], q, positions), keys.shape[2]
    # The heads of a group as so many queries: no key is repeated for them.
    grouped, k, v = q[:, 0].unflatten(1, (G, -1)), keys[:, :S].transpose(1, 2), values[:, :S].transpose(1, 2)
    counts = None if q.is_cuda else [min(length, S) for length in positions.lengths]
    if counts is None or sum(counts) > FULL_ENOUGH * S * len(counts):
        visible = None
        if counts is None or min(counts) < S:
            visible = (torch.arange(S, device=q.device) <= positions.before[:, None])[:, None, None]
        return scaled_dot_product_attention(grouped, k, v, attn_mask=visible, scale=scale).flatten(1, 2)[:, None]
    rows = [
        scaled_dot_product_attention(grouped[row : row + 1], k[row, None, :, :n], v[row, None, :, :n], scale=scale)
        for row, n in enumerate(counts)
    ]
    return torch.cat(rows).flatten(1, 2)[:, None]


def has_kernels(head_dim: int, group: int) -> bool:
    """Whether there are kernels for heads of that many channels, so many to a key; only where Triton is installed."""
    from gdn2.ops.triton.attention import fits

    return fits(head_dim, group)


def _put(memory: Tensor, new: Tensor, positions: Positions) -> Tensor:
    """Overwrite slots of memory [B, S, ...] with the newest S of each row's new tokens [B, T, ...]; give it back."""
    T, S = new.shape[1], memory.shape[1]
    new = new.to(memory.dtype)
    if positions.is_step:
        rows = torch.arange(len(new), device=new.device)
        memory.index_put_((rows, positions.index[:, 0] % S), new[:, 0])
    elif positions.aligned:
        count = min(T, S)
        new, at = new[:, T - count :], (positions.longest - count) % S
        before_wrap = min(count, S - at)
        memory[:, at : at + before_wrap] = new[:, :before_wrap]
        memory[:, : count - before_wrap] = new[:, before_wrap:]
    else:
        column = torch.arange(T, device=new.device)
        last = positions.before + positions.count
        taken = (column >= positions.start[:, None]) & (column < (positions.start + positions.count)[:, None])
        rows, columns = (taken & (positions.index >= (last - S)[:, None])).nonzero(as_tuple=True)
        memory.index_put_((rows, positions.index[rows, columns] % S), new[rows, columns])
    return memory
