"""The recurrence chunk by chunk in PyTorch with its gradients written out: what a CPU trains with.

With e = b * k and z = w * v, the rows E = exp G * e and Q = exp G * q, as the state before a chunk sees them, the keys
K = exp(G_C - G) * k, as the state behind it does, and the scores L = stril(e k^T) and P = tril(q k^T) under decay
(`gdn2.ops.chunk_scores`), a chunk that starts from the state S is

    A = (I + L)^-1       U = A z - (A E) S       o = scale * (Q S + P U)       S' = exp(G_C) * S + K^T U

Going back, with do scaled:

    dU = P^T do + K dS'      dz = A^T dU      dS = exp(G_C) * dS' + Q^T do - (A E)^T dU
    dE, dQ = -dz S^T, do S^T      dK = U dS'^T      dL, dP = -dz U^T, do U^T

Only U, dU and the states go from chunk to chunk; everything else is a product of all chunks at once. Where nothing is
erased there are no E, L and A.

Letters: B batch, T tokens, H heads, N chunks, C tokens of a chunk, K key dim, V value dim. Chunks come first,
[N, B, H, C, d], so that those of one step lie together; M = N * B * H.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from gdn2.ops.chunk_scores import decayed_scores, score_gradients
from gdn2.ops.orders import once

NO_DECAY_LEFT = -1e4  # exp of this is exactly 0 in float32 and float64, so that a log-decay of -inf needs no case
SMALL_HEAD = 32  # up to which the products within a chunk, not those with the state, decide how long it should be
CHUNK_SIZES = (16, 32)  # of small heads and of others
CACHED = 1 << 17  # numbers of q in the rows that run together, so that most of what is made of them stays in the caches


def learned_gated_delta_rule_2(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, scale: float, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same as `naive_gated_delta_rule_2`, for when gradients are asked for; they can be taken once."""
    dtype = initial_state.dtype
    inputs = (x.to(dtype) for x in (q, k, v, g, b, w))
    o, state = _Rule.apply(*inputs, scale, initial_state)  # type: ignore[no-untyped-call]
    return o.to(v.dtype), state


class _Rule(torch.autograd.Function):
    """Rows of the batch run a few at a time."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *six, scale, state = inputs
        q, _, v, g, b, _ = six
        B, T, H, K = q.shape
        erases = bool(ctx.needs_input_grad[4] or any(b.stride()) or b[:1, :1, :1, :1].any())
        ctx.rows, ctx.scale, ctx.erases = max(CACHED // max(T * H * K, 1), 1), scale, erases
        size = CHUNK_SIZES[K > SMALL_HEAD]
        o, last, kept = torch.empty_like(v, memory_format=torch.contiguous_format), torch.empty_like(state), []
        ctx.counts = []
        for start in range(0, B, ctx.rows):
            part = slice(start, start + ctx.rows)
            o_part, last_part, kept_part = _forward([x[part] for x in six], state[part], size, erases=erases)
            _write(o_part.mul_(scale), o[part])
            last[part] = last_part.view_as(last[part])
            ctx.counts.append(len(kept_part))
            kept += kept_part
        ctx.save_for_backward(g, *kept)
        return o, last

    @staticmethod
    @once
    def backward(ctx: Any, d_o: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        kind = d_o.device.type
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return _gradients(ctx, d_o, d_last)


def _gradients(ctx: Any, d_o: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
    g, *kept = ctx.saved_tensors
    of_keys, of_values = g.shape, d_o.shape
    found = [d_o.new_empty(shape) for shape in (of_keys, of_keys, of_values, of_keys, of_keys, of_values)]
    d_state, first = torch.empty_like(d_last), 0
    for number, count in enumerate(ctx.counts):
        part = slice(number * ctx.rows, (number + 1) * ctx.rows)
        mine, first = kept[first : first + count], first + count
        d_start, six = _backward(mine, d_o[part], d_last[part], ctx.scale, erases=ctx.erases)
        d_state[part] = d_start.view_as(d_state[part])
        for of, whole in zip(six, found, strict=True):
            if of is not None:
                _write(of, whole[part])
    if g.numel() and g.amin() < NO_DECAY_LEFT:
        found[3].masked_fill_(g < NO_DECAY_LEFT, 0.0)
    dq, dk, dv, dg, db, dw = found
    return dq, dk, dv, dg, db if ctx.erases else None, dw, None, d_state


def _forward(six: Sequence[Tensor], state: Tensor, size: int, *, erases: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The outputs [N, B, H, C, V] without their scale, the last state [B * H, K, V], and what the way back needs."""
    q, (k, v, g, b, w) = six[0], (_in_chunks(x, size) for x in six[1:])
    (N, B, H, C, K), V = k.shape, v.shape[-1]
    M = N * B * H
    rows = k.new_empty(1 + erases, M, C, K)
    _fill_chunks(rows[-1].view_as(k), q)
    if erases:
        torch.mul(b, k, out=rows[0].view_as(k))
    given = k.view(M, C, K)
    seen = decayed_scores(rows, given, g.clamp_(min=NO_DECAY_LEFT).view(M, C, K))
    P = seen.scores[-1]
    P.diagonal(dim1=-2, dim2=-1).copy_(torch.linalg.vecdot(rows[-1], given))
    U = (v * w).view(M, C, V)
    solved = []
    if erases:
        identity = torch.eye(C, dtype=k.dtype, device=k.device).expand_as(P)
        inverse = torch.linalg.solve_triangular(seen.scores[0], identity, upper=False, unitriangular=True)
        U, solved = inverse @ U, [inverse, inverse @ seen.rows[0]]
    states = k.new_empty(N + 1, B * H, K, V)
    states[0].copy_(state.flatten(0, 1))
    steps = [x.view(N, B * H, -1, x.shape[-1]) for x in (U, seen.keys, seen.total[..., None], *solved[1:])]
    for n in range(N):
        U_n, K_n, carry, *W = (x[n] for x in steps)
        if erases:
            U_n.baddbmm_(W[0], states[n], alpha=-1)
        torch.mul(states[n], carry, out=states[n + 1]).baddbmm_(K_n.transpose(1, 2), U_n)
    o = (P @ U).baddbmm_(seen.rows[-1], states[:N].view(M, K, V))
    kept = [rows[-1].view_as(k), k, v, b, w, U, states, P, seen.rows[-1], seen.keys, seen.total, *solved, *seen.kept]
    return o.view(N, B, H, C, V), states[N], kept


def _backward(
    kept: Sequence[Tensor], d_o: Tensor, d_last: Tensor, scale: float, *, erases: bool
) -> tuple[Tensor, list[Tensor | None]]:
    """The gradients of the first state [B * H, K, V] and of q, k, v, g, b, w; None: there is none."""
    q, k, v, b, w, U, states, P, Q, K_end, total, *rest = kept
    (N, B, H, C, K), V = k.shape, v.shape[-1]
    M = N * B * H
    D = k.new_empty(1 + erases, M, C, V)
    _fill_chunks(D[-1].view(N, B, H, C, V), d_o)
    D[-1].mul_(scale)
    dU, d_states = P.transpose(1, 2) @ D[-1], torch.empty_like(states)
    d_states[N].copy_(d_last.flatten(0, 1))
    of_outputs = Q.transpose(1, 2) @ D[-1]
    solved = rest[: 2 * erases]
    parts = (dU, K_end, total[..., None], of_outputs, *solved[1:])
    steps = [x.view(N, B * H, -1, x.shape[-1]) for x in parts]
    for n in reversed(range(N)):
        dU_n, K_n, carry, dS_n, *W = (x[n] for x in steps)
        dU_n.baddbmm_(K_n, d_states[n + 1])
        torch.addcmul(dS_n, d_states[n + 1], carry, out=d_states[n])
        if erases:
            d_states[n].baddbmm_(W[0].transpose(1, 2), dU_n, alpha=-1)
    if erases:
        torch.baddbmm(D[0], solved[0].transpose(1, 2), dU, beta=0, alpha=-1, out=D[0])
    before, behind = states[:N].view(M, K, V), d_states[1:].view(M, K, V)
    d_scores, d_rows = k.new_empty(len(D), M, C, C), k.new_empty(len(D), M, C, K)
    for d, d_score, d_row in zip(D, d_scores, d_rows, strict=True):
        torch.bmm(d, U.transpose(1, 2), out=d_score)
        torch.bmm(d, before.transpose(1, 2), out=d_row)
    d_keys = U @ behind.transpose(1, 2)
    d_total = torch.linalg.vecdot(behind, before) * total
    d_diagonal = d_scores[-1].diagonal(dim1=-2, dim2=-1)[..., None].contiguous()
    d_rows, d_keys, dg = score_gradients(rest[2 * erases :], d_scores, d_rows, d_keys, d_total)
    d_keys.addcmul_(q.view(M, C, K), d_diagonal)
    d_rows[-1].addcmul_(k.view(M, C, K), d_diagonal)
    db = None
    if erases:
        d_keys.addcmul_(d_rows[0], b.view(M, C, K))
        db = d_rows[0].mul_(k.view(M, C, K)).view_as(k)
        dU = D[0].neg_()
    dU = dU.view_as(v)
    return d_states[0], [d_rows[-1].view_as(k), d_keys.view_as(k), dU * w, dg.view_as(k), db, dU * v]


def _in_chunks(x: Tensor, C: int) -> Tensor:
    """[B, T, H, d] -> [N, B, H, C, d]; the last chunk is filled up with zeros, which are steps that change nothing."""
    B, T, H, d = x.shape
    y = x.new_empty(-(-T // C), B, H, C, d)
    _fill_chunks(y, x)
    return y


def _fill_chunks(y: Tensor, x: Tensor) -> None:
    """Write x [B, T, H, d] to y [N, B, H, C, d], and zeros behind it."""
    T, C = x.shape[1], y.shape[-2]
    whole, rest = divmod(T, C)
    y[:whole].copy_(x[:, : whole * C].unflatten(1, (whole, C)).permute(1, 0, 3, 2, 4))
    if rest:
        y[whole, ..., rest:, :].zero_()
        y[whole, ..., :rest, :].copy_(x[:, whole * C :].transpose(1, 2))


def _write(y: Tensor, x: Tensor) -> None:
    """Write y [N, B, H, C, d] to x [B, T, H, d]."""
    T, C = x.shape[1], y.shape[-2]
    whole, rest = divmod(T, C)
    x[:, : whole * C].unflatten(1, (whole, C)).copy_(y[:whole].permute(1, 0, 3, 2, 4))
    if rest:
        x[:, whole * C :].copy_(y[whole, ..., :rest, :].transpose(1, 2))
