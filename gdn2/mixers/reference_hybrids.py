"""Attention and the mixture of experts once more, token by token and head by head in float64: their specification.

They read parameters by name and call no module's forward.

Letters: T tokens, D width, d channels of a head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from gdn2.mixers.reference_parts import convolve, linear, parameters, rms, rotate, zeros


def attention(mixer: Any, x: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v (or with another scale) so far, with rotary embedding and grouped queries."""
    return _attention(mixer, x, len(x))


def swa(mixer: Any, x: Tensor) -> Tensor:
    """The same over the last `window_size` tokens."""
    return _attention(mixer, x, mixer.window)


def _attention(mixer: Any, x: Tensor, window: int) -> Tensor:
    p, d = parameters(mixer), mixer.head_dim
    q, k, v = (linear(p, f"{name}_proj", x) for name in "qkv")
    if "q_conv1d.weight" in p:
        parts = zip("qkv", (q, k, v), strict=True)
        q, k, v = (silu(convolve(part, p[f"{name}_conv1d.weight"], None)) for name, part in parts)
    if not mixer.norm_whole:
        q, k = q.view(len(x), -1, d), k.view(len(x), -1, d)
    if "q_norm.weight" in p:
        centre = 1 if mixer.q_norm.zero_centred else 0
        q = rms(q, mixer.q_norm.eps) * (centre + p["q_norm.weight"])
        k = rms(k, mixer.k_norm.eps) * (centre + p["k_norm.weight"])
    q, k, v = q.view(len(x), -1, d), k.view(len(x), -1, d), v.view(len(x), -1, d)
    if mixer.theta is not None:
        n = mixer.rotated
        frequency = mixer.theta ** -(torch.arange(0, n, 2, dtype=x.dtype) / n)
        if mixer.llama3 is not None:
            frequency = torch.stack([_stretched(f, mixer.llama3) for f in frequency])
        angles = torch.arange(len(x), dtype=x.dtype)[:, None] / mixer.condense * frequency
        for part in (q, k):
            part[..., :n] = torch.stack([rotate(*row) for row in zip(part[..., :n], angles, strict=True)])
    y, scale = zeros(q.shape), 1 / math.sqrt(d) if mixer.scale is None else mixer.scale
    for t in range(len(x)):
        seen = slice(max(t - window + 1, 0), t + 1)
        for h in range(q.shape[1]):
            group = h * k.shape[1] // q.shape[1]
            weights = torch.softmax(scale * (k[seen, group] @ q[t, h]), dim=0)
            y[t, h] = weights @ v[seen, group]
    y = y.flatten(1)
    if "g_proj.weight" in p:
        y = y * torch.sigmoid(linear(p, "g_proj", x))
    return linear(p, "o_proj", y)


def mla(mixer: Any, x: Tensor) -> Tensor:
    """Attention whose keys and values are matrices times a latent, the end of a key shared by all heads."""
    p = parameters(mixer)
    H, n, v, R = mixer.num_heads, mixer.own_dim, mixer.value_dim, mixer.latent
    queries = x
    if "q_down.weight" in p:
        queries = rms(linear(p, "q_down", x), mixer.q_norm.eps) * p["q_norm.weight"]
    q = linear(p, "q_proj", queries).view(len(x), H, -1)
    down = linear(p, "kv_down", x)
    latent, shared = rms(down[:, :R], mixer.kv_norm.eps) * p["kv_norm.weight"], down[:, R:]
    up = linear(p, "kv_up", latent).view(len(x), H, n + v)
    y = zeros(len(x), H, v)
    for t in range(len(x)):
        for h in range(H):
            keys = torch.cat([up[: t + 1, h, :n], shared[: t + 1]], dim=-1)
            weights = torch.softmax(keys @ q[t, h] / math.sqrt(q.shape[-1]), dim=0)
            y[t, h] = weights @ up[: t + 1, h, n:]
    return linear(p, "o_proj", y.flatten(1))


def experts(mlp: Any, x: Tensor) -> Tensor:
    """The sum of a token's best experts, each times its share of the router's scores, and of the shared expert."""
    p = parameters(mlp)
    y = zeros(x.shape)
    for t, token in enumerate(x):
        scores = linear(p, "router", token)
        shares = torch.softmax(scores, dim=0) if mlp.scores == "softmax" else torch.sigmoid(scores)
        best = _best(mlp, (shares + p.get("choice_bias", 0)).tolist())
        total = sum(shares[e] for e in best) if mlp.weights_sum else 1
        for e in best:
            y[t] += mlp.scale * shares[e] / total * _swiglu(p, f"experts.{e}", token)
        if mlp.has_shared:
            gate = torch.sigmoid(linear(p, "shared_gate", token)) if "shared_gate.weight" in p else 1
            y[t] += gate * _swiglu(p, "shared_expert", token)
    return y


def _best(mlp: Any, scores: list[float]) -> list[int]:
    """The experts of the largest scores in the groups whose two best have the largest sum."""
    size = len(scores) // mlp.groups
    groups = [range(first, first + size) for first in range(0, len(scores), size)]
    groups.sort(key=lambda group: -sum(sorted(scores[e] for e in group)[-2:]))
    open_to = [e for group in groups[: mlp.groups_kept] for e in group]
    return sorted(open_to, key=lambda e: -scores[e])[: mlp.per_token]


def _swiglu(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    inner = silu(linear(p, f"{name}.gate_proj", x)) * linear(p, f"{name}.up_proj", x)
    return linear(p, f"{name}.down_proj", inner)


def _stretched(frequency: Tensor, how: dict[str, float]) -> Tensor:
    low, high = how["low_freq_factor"], how["high_freq_factor"]
    turns = how["original_max_position_embeddings"] * frequency / (2 * math.pi)
    if turns > high:
        return frequency
    share = 0.0 if turns < low else (turns - low) / (high - low)
    return (1 - share) * frequency / how["factor"] + share * frequency
