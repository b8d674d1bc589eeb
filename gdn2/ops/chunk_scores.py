"""The scores of a chunk's tokens under decay, by products that stand any decay, and their gradients.

A score is sum_c row_ic key_jc exp(G_ic - G_jc) for j < i, with the inclusive cumulative log-decay G. In blocks of as
many tokens as one reference in the middle of a block's range can bear it is one product. Larger blocks are joined in
pairs: rows of the right block have decayed since its start, keys of the left one until its end, so that one product has
all pairs of them; then the rows of the right block go on with the decay of the left one, and the keys of the left one
with that of the right one. So exponentials are taken in the blocks alone, and the joins cannot overflow or cancel.

Within a block the gradient of G_i is row_i . drow_i - key_i . dkey_i, channel by channel, since scores depend on
differences of G. Beyond it a log-decay has what all rows and keys have that it stands between; nothing is subtracted.

Letters: R kinds of rows, M chunks, C tokens of a chunk, n blocks of a chunk, s tokens of a block, K key dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_RANGE = 40.0  # nats: factors stay within exp(+-20), where float32 loses no accuracy


class Decayed(NamedTuple):
    """Rows and keys as the state before and behind a chunk sees them, and the scores.

    Attributes:
        scores: [R, M, C, C], zero from the diagonal on.
        rows: decayed since the chunk's start [R, M, C, K].
        keys: decayed until its end [M, C, K].
        total: the decay of a whole chunk [M, K].
        kept: what the gradients need.
    """

    scores: Tensor
    rows: Tensor
    keys: Tensor
    total: Tensor
    kept: list[Tensor]


def decayed_scores(rows: Tensor, keys: Tensor, g: Tensor) -> Decayed:
    """Compute the scores.

    Args:
        rows: [R, M, C, K].
        keys: [M, C, K].
        g: log-decay [M, C, K], finite.
    """
    C, s = g.shape[1], _bearable(g)
    up, into, until = _block_decays(g, s)
    down = up.reciprocal()
    rows, keys = rows * up, keys * down
    kept = [up, down, rows, keys, into, until]
    scores = _in_blocks(rows, keys, s)
    rows, keys = (rows.unflatten(2, (-1, s)) * into).flatten(2, 3), (keys.unflatten(1, (-1, s)) * until).flatten(1, 2)
    total = (into * until)[:, :, 0]  # [M, n, K]
    while s < C:
        late, early = _late(rows, s), _early(keys, s)
        for place, row in zip(scores, late, strict=True):
            joined = row.flatten(0, 1) @ early.flatten(0, 1).transpose(1, 2)
            _joined(place, s).copy_(joined.view(len(keys), -1, s, s))
        left, right = total[:, 0::2, None], total[:, 1::2, None]
        kept += [rows, keys, left, right]
        rows, keys = rows.clone(), keys.clone()
        _late(rows, s).mul_(left)
        _early(keys, s).mul_(right)
        total, s = (left * right)[:, :, 0], 2 * s
    return Decayed(scores, rows, keys, total[:, 0], kept)


def score_gradients(
    kept: Sequence[Tensor], d_scores: Tensor, d_rows: Tensor, d_keys: Tensor, d_total: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of rows, keys and log-decays.

    Args:
        kept: as `decayed_scores` says.
        d_scores: [R, M, C, C]; what is not below the diagonal is not read.
        d_rows: of the decayed rows [R, M, C, K], overwritten.
        d_keys: of the decayed keys [M, C, K], overwritten.
        d_total: of the logarithm of the whole chunk's decay [M, K], as far as neither of them depends on it.

    Returns:
        Those of rows and keys as they were given, in the memory of `d_rows` and `d_keys`, and that of g [M, C, K].
    """
    up, down, base_rows, base_keys, into, until = kept[:6]
    C, base = up.shape[1], up.shape[1] // into.shape[1]
    s, of_blocks = C // 2, d_total[:, None]  # [M, n, K]
    for first in range(len(kept) - 4, 5, -4):
        rows, keys, left, right = kept[first : first + 4]
        late, early, d_late, d_early = _late(rows, s), _early(keys, s), _late(d_rows, s), _early(d_keys, s)
        d_late.mul_(left)
        d_early.mul_(right)
        of_left, of_right = (late * d_late).sum((0, 3)), (early * d_early).sum(2)
        of_blocks = torch.stack([of_blocks + of_left, of_blocks + of_right], dim=2).flatten(1, 2)
        for row, d_row, d_score in zip(late, d_late, d_scores, strict=True):
            d_join = _joined(d_score, s).flatten(0, 1)
            d_row.add_((d_join @ early.flatten(0, 1)).view_as(d_row))
            d_early.add_((d_join.transpose(1, 2) @ row.flatten(0, 1)).view_as(d_early))
        s //= 2
    d_rows.unflatten(2, (-1, base)).mul_(into)
    d_keys.unflatten(1, (-1, base)).mul_(until)
    # A row has decayed with all tokens of its block up to its own, a key with all later ones.
    earlier, later = _sum_of_products(base_rows, d_rows), base_keys * d_keys
    if base > 1:
        earlier += _add_block_gradients(base_rows, base_keys, d_scores, d_rows, d_keys, base)
    ones = up.new_ones(base, base)
    sums = torch.cat([_on_diagonal(ones.triu(), C), _on_diagonal(ones.tril(-1), C)], dim=1).expand(len(up), C, 2 * C)
    dg = (sums @ torch.cat([earlier, later], dim=1)).unflatten(1, (-1, base)).add_(of_blocks[:, :, None]).flatten(1, 2)
    return d_rows.mul_(up), d_keys.mul_(down), dg


def _bearable(g: Tensor) -> int:
    """The largest blocks, halves of halves of a chunk, in which a reference in the middle bears the decay."""
    s = g.shape[1]
    while s > 1 and g.unflatten(1, (-1, s))[:, :, 1:].sum(2).amin() < -MAX_RANGE:
        s //= 2
    return s


def _block_decays(g: Tensor, s: int) -> tuple[Tensor, Tensor, Tensor]:
    """Decays of rows from a block's reference [M, C, K]; from its start to that, and on to its end [M, n, 1, K]."""
    C = g.shape[1]
    inside = _on_diagonal(g.new_ones(s, s).tril(), C)
    inside[:, ::s] = 0  # the first token's decay comes before any pair of the block
    G = (inside.expand(len(g), C, C) @ g).unflatten(1, (-1, s))  # [M, n, s, K]
    middle = G[:, :, -1:] * 0.5
    up = (G - middle).exp_().flatten(1, 2)
    return up, (middle + g.unflatten(1, (-1, s))[:, :, :1]).exp_(), middle.exp()


def _in_blocks(rows: Tensor, keys: Tensor, s: int) -> Tensor:
    """The scores of pairs within blocks, [R, M, C, C]."""
    R, M, C, K = rows.shape
    if s == 1:
        return rows.new_zeros(R, M, C, C)
    below = rows.new_ones(s, s).tril_(-1)
    keys = keys.view(-1, s, K).transpose(1, 2)
    if s == C:
        scores = rows.new_empty(R, M, C, C)
        for place, row in zip(scores, rows, strict=True):
            torch.bmm(row, keys, out=place)
        return scores.mul_(below)
    scores = rows.new_zeros(R, M, C, C)
    for place, row in zip(scores, rows, strict=True):
        torch.mul((row.view(-1, s, K) @ keys).view(M, -1, s, s), below, out=_within(place, s))
    return scores


def _add_block_gradients(
    rows: Tensor, keys: Tensor, d_scores: Tensor, d_rows: Tensor, d_keys: Tensor, s: int
) -> Tensor:
    """Add what rows and keys have from the scores within blocks; returns the gradient of G from these [M, C, K]."""
    K = keys.shape[-1]
    below, of_keys, dG = rows.new_ones(s, s).tril_(-1), torch.zeros_like(keys), torch.zeros_like(keys)
    for row, d_row, d_score in zip(rows, d_rows, d_scores, strict=True):
        d_block = (_within(d_score, s) * below).flatten(0, 1)
        of_row = (d_block @ keys.view(-1, s, K)).view_as(row)
        of_keys.view(-1, s, K).baddbmm_(d_block.transpose(1, 2), row.view(-1, s, K))
        d_row.add_(of_row)
        dG.addcmul_(row, of_row)
    d_keys.add_(of_keys)
    return dG.addcmul_(keys, of_keys, value=-1)


def _sum_of_products(rows: Tensor, others: Tensor) -> Tensor:
    """The sum over the kinds of rows [R, M, C, K], [M, C, K]."""
    total = rows[0] * others[0]
    for row, other in zip(rows[1:], others[1:], strict=True):
        total.addcmul_(row, other)
    return total


def _on_diagonal(block: Tensor, C: int) -> Tensor:
    """The matrix [C, C] with this block along its diagonal."""
    return torch.block_diag(*[block] * (C // len(block)))  # type: ignore[no-any-return]


def _late(rows: Tensor, s: int) -> Tensor:
    """The right blocks of pairs, [R, M, n / 2, s, K]."""
    found: Tensor = rows.unflatten(2, (-1, 2, s))[:, :, :, 1]
    return found


def _early(keys: Tensor, s: int) -> Tensor:
    """The left blocks of pairs, [M, n / 2, s, K]."""
    found: Tensor = keys.unflatten(1, (-1, 2, s))[:, :, 0]
    return found


def _within(scores: Tensor, s: int) -> Tensor:
    """The scores [M, C, C] of blocks' own tokens, [M, n, s, s]."""
    found: Tensor = scores.unflatten(2, (-1, s)).unflatten(1, (-1, s)).diagonal(dim1=1, dim2=3).movedim(-1, 1)
    return found


def _joined(scores: Tensor, s: int) -> Tensor:
    """The scores [M, C, C] of pairs' right blocks with their left ones, [M, n / 2, s, s]."""
    return _within(scores, 2 * s)[:, :, s:, :s]
