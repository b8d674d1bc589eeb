"""Softmax attention of a run of tokens: to its own keys, and to those of the tokens before it.

Kernels do it where there are any (gdn2/ops/banded.py), in one pass over the keys that a query can see. PyTorch's
function does it elsewhere, with masks, which are the specification; and where a run is the start of all texts, has no
padding and its window is not full: there it needs no mask, and has a fast path of its own.

Letters: B batch, T tokens, S slots, H query heads, G key and value heads, d channels of a head, W tokens of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from gdn2.ops import banded
from gdn2.padding import Padding, Positions

MASK_ELEMENTS = 1 << 24  # queries are taken in pieces, so that a mask has at most that many elements
LEAST_PIECE = 64  # queries of a piece in front of a smaller window


def attend_all(
    q: Tensor, k: Tensor, v: Tensor, slots: tuple[Tensor, Tensor], positions: Positions, scale: float | None
) -> Tensor:
    """Attend to all tokens so far.

    Args:
        q: [B, T, H, d].
        k: the run's own keys [B, T, G, d].
        v: its values.
        slots: keys and values of all tokens [B, S, G, d], those of the run among them, by their position.
        positions: where the run's tokens are.
        scale: of the products of queries and keys; 1 / sqrt(d) by default.

    Returns:
        [B, T, H, d]; at padding it does not matter.
    """
    if positions.first and positions.aligned:
        return _attend(q, k, v, None, scale)
    if positions.first and banded.attends(q, k, v):
        return banded.attend(q, k, v, positions, None, scale)
    if banded.attends(q, *slots, k, v):
        return banded.attend(q, *slots, positions, None, scale, cached=True)
    S = positions.longest
    places, parts = torch.arange(S, device=q.device), []
    seen = [_repeated(part[:, :S], q.shape[2]) for part in slots]
    for piece in pieces(q.shape[0], q.shape[1], S):
        visible = places <= positions.index[:, piece, None]
        parts.append(_attend(q[:, piece], seen[0], seen[1], visible, scale))
    return torch.cat(parts, dim=1)


def attend_window(
    q: Tensor, k: Tensor, v: Tensor, ring: tuple[Tensor, Tensor], padding: Padding | None, positions: Positions,
    *, scale: float | None,
) -> Tensor:  # fmt: skip
    """Attend to the last W tokens.

    Args:
        q: [B, T, H, d].
        k: the run's own keys [B, T, G, d].
        v: its values.
        ring: keys and values of the tokens before, [B, W, G, d], the token at position p in slot p modulo W.
        padding: of the run.
        positions: where its tokens are.
        scale: of the products of queries and keys; 1 / sqrt(d) by default.

    Returns:
        [B, T, H, d]; at padding it does not matter.
    """
    T, W = q.shape[1], ring[0].shape[1]
    fits, before = T <= W and positions.first and positions.aligned, () if positions.first else ring
    if not fits and banded.attends(q, k, v, *before):
        return banded.attend(q, k, v, positions, W, scale, ring=before or None)
    new = positions.index if padding is None else positions.index.masked_fill(padding.is_pad[..., 0], -1)
    parts, size = [], max(W, LEAST_PIECE)
    for start in range(0, T, size):
        stop, first = min(start + size, T), max(start - W + 1, 0)
        keys, values, at = k[:, first:stop], v[:, first:stop], new[:, first:stop]
        if start == 0 and stop <= W and positions.first and positions.aligned:
            parts.append(_attend(q[:, :stop], keys, values, None, scale))
            continue
        if start == 0 and not positions.first:  # later pieces are a whole window behind what the ring holds
            keys, values = torch.cat([ring[0], keys], dim=1), torch.cat([ring[1], values], dim=1)
            at = torch.cat([_ring_positions(positions.before, W), at], dim=1)
        query = positions.index[:, start:stop, None]
        visible = (at[:, None] <= query) & (at[:, None] > query - W) & (at[:, None] >= 0)
        itself = torch.arange(stop - start, device=q.device)[:, None] + keys.shape[1] - (stop - start)
        visible = visible | (torch.arange(keys.shape[1], device=q.device) == itself)  # also padding sees something
        parts.append(_attend(q[:, start:stop], keys, values, visible, scale))
    return torch.cat(parts, dim=1)


def pieces(B: int, T: int, S: int) -> list[slice]:
    """The queries of each piece, such that B masks of T x S have at most `MASK_ELEMENTS` together."""
    size = max(MASK_ELEMENTS // max(B * S, 1), 1)
    return [slice(start, start + size) for start in range(0, T, size)]


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float | None) -> Tensor:
    """Attend with q [B, T, H, d] to k and v [B, S, G, d] where visible [B, T, S] (None: causal): [B, T, H, d]."""
    q, k, v = (part.transpose(1, 2) for part in (q, _repeated(k, q.shape[2]), _repeated(v, q.shape[2])))
    mask = None if visible is None else visible[:, None]
    o = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=visible is None, scale=scale)
    return o.transpose(1, 2)


def _repeated(x: Tensor, heads: int) -> Tensor:
    """Keys or values [B, S, G, d] once for each of their group's query heads, [B, S, H, d]."""
    groups = heads // x.shape[2]
    return x.repeat_interleave(groups, dim=2) if groups > 1 else x


def _ring_positions(lengths: Tensor, window: int) -> Tensor:
    """The position of the token in each slot of rows with that many tokens, [B, W]; negative in empty slots."""
    newest = lengths[:, None] - 1
    return newest - (newest - torch.arange(window, device=lengths.device)).remainder(window)
