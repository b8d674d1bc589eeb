"""The recurrence chunk by chunk in PyTorch: the path on CPUs, and the fallback elsewhere.

Where gradients are asked for `gdn2.ops.chunk_gradients` runs, without them what follows.

Inside a chunk of C tokens that starts from the state S, with the inclusive cumulative log-decay G,
e = b * k and z = w * v, the writes U solve a unit-triangular system (WY form):

    L_ij = sum_c e_ic k_jc exp(G_ic - G_jc)   (j < i)      P_ij = sum_c q_ic k_jc exp(G_ic - G_jc)   (j <= i)
    (I + L) U = z - (e * exp G) S                          o = scale * ((q * exp G) S + P U)
    S' = exp(G_C) * S + (k * exp(G_C - G))^T U

exp(-G) alone is never formed. Where a chunk decays little, one reference in the middle of its range is enough for all
pairs of its tokens; elsewhere pairs are joined level by level, so that every exponent is <= 0 whatever g is.

Letters: B batch, H heads, N chunks, C tokens of a chunk, K key dim, V value dim.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from gdn2.ops.chunk_gradients import NO_DECAY_LEFT, learned_gated_delta_rule_2
from gdn2.ops.chunk_scores import MAX_RANGE
from gdn2.ops.orders import writes_gradients

CHUNK_SIZE = 32
SEGMENT_CHUNKS = 16  # a longer input runs in segments, so that scratch memory stays constant
LEAST_CHUNKS = 2
CACHED = 1 << 16  # numbers of q in a segment on a CPU, so that some twenty tensors of its size stay in the caches


def chunked_gated_delta_rule_2(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, scale: float, initial_state: Tensor
) -> tuple[Tensor, Tensor]:
    """The same as `naive_gated_delta_rule_2`, with T / 32 dependent steps instead of T, and differentiable."""
    T = q.shape[1]
    learns = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, g, b, w, initial_state))
    if T and learns and writes_gradients():
        return learned_gated_delta_rule_2(q, k, v, g, b, w, scale, initial_state)
    segment = _segment_chunks(q) * CHUNK_SIZE
    state, outputs = initial_state, []
    for start in range(0, T, segment):
        end = start + segment
        inputs = (q[:, start:end], k[:, start:end], v[:, start:end], g[:, start:end], b[:, start:end], w[:, start:end])
        o, state = _run_segment(*inputs, scale, state)
        outputs.append(o)
    o = torch.cat(outputs, dim=1) if outputs else v.new_zeros(v.shape)
    return o.to(v.dtype), state


def _segment_chunks(q: Tensor) -> int:
    """How many chunks of q [B, T, H, K] run together."""
    if q.device.type != "cpu":
        return SEGMENT_CHUNKS
    numbers = max(q.shape[0] * CHUNK_SIZE * q.shape[2] * q.shape[3], 1)  # of a chunk
    return min(max(CACHED // numbers, LEAST_CHUNKS), SEGMENT_CHUNKS)


def _run_segment(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, scale: float, state: Tensor
) -> tuple[Tensor, Tensor]:
    T, dtype = q.shape[1], state.dtype
    q, k, v, g, b, w = (_to_chunks(x.to(dtype)) for x in (q, k, v, g, b, w))
    g = g.clamp(min=NO_DECAY_LEFT)
    erase, write = b * k, w * v
    decay_in, decay_out, P, L = _decay_and_scores(q, k, erase, g)
    carry = decay_in[..., -1, :, None]  # [B, H, N, K, 1]
    identity = torch.eye(L.shape[-1], dtype=dtype, device=L.device).expand_as(L)
    inverse = torch.linalg.solve_triangular(L, identity, upper=False, unitriangular=True)
    W = inverse @ (erase * decay_in)
    U0 = inverse @ write
    reads = torch.cat([W, q * decay_in], dim=-2)  # one product reads both from the incoming state
    k_out = (k * decay_out).transpose(-1, -2)

    C = L.shape[-1]
    U_chunks, o_chunks = [], []
    for reads_n, U0_n, k_out_n, carry_n in zip(*(x.unbind(2) for x in (reads, U0, k_out, carry)), strict=True):
        read = reads_n @ state
        U = U0_n - read[..., :C, :]
        state = carry_n * state + k_out_n @ U
        U_chunks.append(U)
        o_chunks.append(read[..., C:, :])
    o = torch.stack(o_chunks, dim=2) + P @ torch.stack(U_chunks, dim=2)
    return scale * o.flatten(2, 3)[:, :, :T].transpose(1, 2), state


def _to_chunks(x: Tensor) -> Tensor:
    """[B, T, H, d] -> [B, H, N, C, d]; the last chunk is filled up with zeros, which are steps that change nothing."""
    B, T, H, d = x.shape
    if T % CHUNK_SIZE:
        x = pad(x, (0, 0, 0, 0, 0, -T % CHUNK_SIZE))
    return x.transpose(1, 2).reshape(B, H, -1, CHUNK_SIZE, d).contiguous()


Terms = tuple[Tensor, Tensor, Tensor, Tensor]


def _decay_and_scores(q: Tensor, k: Tensor, erase: Tensor, g: Tensor) -> Terms:
    """The decay terms exp G and exp(G_C - G) [B, H, N, C, K], and the masked scores P and L [B, H, N, C, C].

    Each chunk is computed in the way that its own decay asks for, so that not even the last bits of its numbers depend
    on the other chunks of the call.
    """
    strong = ~(g.sum(-2) >= -MAX_RANGE).all(-1)  # [B, H, N]; NaN counts as strong
    num_strong = int(strong.sum())
    if num_strong == 0:
        return _single_reference(q, k, erase, g)
    if num_strong == strong.numel():
        return _by_level(q, k, erase, g)
    terms = []
    for mask, way in ((~strong, _single_reference), (strong, _by_level)):
        at = mask.flatten().nonzero()[:, 0]
        terms.append((at, way(*(x.flatten(0, 2).index_select(0, at) for x in (q, k, erase, g)))))
    (weak_at, weak), (strong_at, other) = terms
    order = torch.cat([weak_at, strong_at]).argsort()
    decay_in, decay_out, P, L = (
        torch.cat(parts).index_select(0, order).unflatten(0, strong.shape) for parts in zip(weak, other, strict=True)
    )
    return decay_in, decay_out, P, L


def _single_reference(q: Tensor, k: Tensor, erase: Tensor, g: Tensor) -> Terms:
    """The terms of chunks that decay little, with one reference in the middle of a chunk's range."""
    rows = torch.cat([q, erase], dim=-2)
    G = g.cumsum(-2)
    middle = G[..., -1:, :] / 2
    up, down = (G - middle).exp(), (middle - G).exp()
    scores = (rows * torch.cat([up, up], dim=-2)) @ (k * down).transpose(-1, -2)
    P, L = scores.chunk(2, dim=-2)
    return G.exp(), (G[..., -1:, :] - G).exp(), P.tril(), L.tril(-1)


def _by_level(q: Tensor, k: Tensor, erase: Tensor, g: Tensor) -> Terms:
    """The terms of chunks for any decay.

    Cumulative sums are in float64: so the small difference of two large sums is exact, however strong the decay before.
    """
    G = g.double().cumsum(-2)
    P, L = _scores_by_level(q, k, erase, G)
    return G.to(q.dtype).exp(), (G[..., -1:, :] - G).to(q.dtype).exp(), P, L


def _scores_by_level(q: Tensor, k: Tensor, erase: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    """The scores P and L for any decay: blocks of 1, 2, 4, ... tokens are joined in pairs, left to right.

    The reference of a pair is G at the end of its left block, so that both exponents are <= 0.
    """
    C = k.shape[-2]
    rows = torch.stack([q, erase], dim=-2)  # [..., C, 2, K]
    scores = k.new_zeros(*rows.shape[:-1], C)  # [..., C, 2, C]
    scores[..., 0, :].diagonal(dim1=-2, dim2=-1).copy_((q * k).sum(-1))
    size = 1
    while size < C:
        pairs = (C // (2 * size), 2, size)
        G_pair, k_pair = G.unflatten(-2, pairs), k.unflatten(-2, pairs)
        reference = G_pair[..., 0, -1:, :]
        left = k_pair[..., 0, :, :] * (reference - G_pair[..., 0, :, :]).to(k.dtype).exp()  # [..., C/2s, s, K]
        right_decay = (G_pair[..., 1, :, :] - reference).to(k.dtype).exp()
        right = rows.unflatten(-3, pairs)[..., 1, :, :, :] * right_decay.unsqueeze(-2)  # [..., C/2s, s, 2, K]
        joined = (right.flatten(-3, -2) @ left.transpose(-1, -2)).unflatten(-2, (size, 2))  # [..., C/2s, s, 2, s]
        below = scores.unflatten(-3, pairs).unflatten(-1, pairs)[..., 1, :, :, :, 0, :]  # [..., C/2s, s, 2, C/2s, s]
        below.diagonal(dim1=-5, dim2=-2).copy_(joined.movedim(-4, -1))
        size *= 2
    return scores[..., 0, :].contiguous(), scores[..., 1, :].contiguous()  # as the other way lays them out
