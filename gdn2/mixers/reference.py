"""Every mixer once more, token by token and head by head in float64, as its paper writes it: the specification.

No function here calls the operator, a module's forward or a state; they read a mixer's parameters by name. They are
slow and read one text x [T, D] from its beginning, giving y [T, D]. `REFERENCES` has them by the names of `MIXERS`.

Letters: T tokens, D width, H heads, K key dim, V value dim, W taps, R rank; S is a matrix state [K, V].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, outer
from torch.nn.functional import elu, logsigmoid, silu, softplus

from gdn2.mixers.base import Mixer
from gdn2.mixers.reference_hybrids import attention, mla, swa
from gdn2.mixers.reference_parts import convolve, linear, low_rank, parameters, rms, rotate, zeros

Step = Callable[[Tensor, int, int], tuple[Tensor, Tensor]]  # (S, token, head) -> (S, o [V])


def reference(mixer: Mixer, name: str, x: Tensor) -> Tensor:
    """What the mixer registered as `name` makes of one text x [T, D], in float64."""
    with torch.no_grad():
        return REFERENCES[name](mixer, x.double())


def gdn2(mixer: Any, x: Tensor) -> Tensor:
    """S_t = (I - k (b * k)^T) Diag(a) S_{t-1} + k (w * v)^T, arXiv:2605.22791."""
    p = parameters(mixer)
    H, K, V = mixer.num_heads, mixer.key_dim, mixer.value_dim
    q, k, v = _queries_keys_values(mixer, p, x)
    f = low_rank(p, "f_proj", x) + p["dt_bias"]
    a = torch.exp(-p["A_log"].exp()[:, None] * softplus(f).view(-1, H, K))
    erase, write = (_a_head(x @ p[f"{n}_proj.weight"].T, gate) for n, gate in zip("bw", mixer.gates, strict=True))
    b = mixer.erase_range * torch.sigmoid(erase(H, K))
    w = torch.sigmoid(write(mixer.num_value_heads, V))

    def step(S: Tensor, t: int, head: int) -> tuple[Tensor, Tensor]:
        h = head * H // mixer.num_value_heads
        transition = (torch.eye(K, dtype=x.dtype) - outer(k[t, h], b[t, h] * k[t, h])) @ torch.diag(a[t, h])
        S = transition @ S + outer(k[t, h], w[t, head] * v[t, head])
        return S, S.T @ q[t, h] / math.sqrt(K)

    return _gated_output(mixer, p, x, _run(step, x, mixer.num_value_heads, (K, V)))


def kda(mixer: Any, x: Tensor) -> Tensor:
    """S_t = (I - beta k k^T) Diag(a) S_{t-1} + beta k v^T, arXiv:2510.26692."""
    p = parameters(mixer)
    H, K, V = mixer.num_value_heads, mixer.key_dim, mixer.value_dim
    q, k, v = _queries_keys_values(mixer, p, x)
    f, rate = (low_rank(p, "f_proj", x) + p["dt_bias"]).view(-1, H, K), p["A_log"].exp()[:, None]
    floor = mixer.decay_floor
    a = torch.exp(-rate * softplus(f) if floor is None else floor * torch.sigmoid(rate * f))
    beta = mixer.erase_range * torch.sigmoid(x @ p["b_proj.weight"].T)

    def step(S: Tensor, t: int, head: int) -> tuple[Tensor, Tensor]:
        key = k[t, head * mixer.num_heads // H]
        S = (torch.eye(K, dtype=x.dtype) - beta[t, head] * outer(key, key)) @ torch.diag(a[t, head]) @ S
        S = S + beta[t, head] * outer(key, v[t, head])
        return S, S.T @ q[t, head * mixer.num_heads // H] / math.sqrt(K)

    return _gated_output(mixer, p, x, _run(step, x, H, (K, V)))


def gated_deltanet(mixer: Any, x: Tensor) -> Tensor:
    """S_t = a (I - beta k k^T) S_{t-1} + beta k v^T, arXiv:2412.06464."""
    p = parameters(mixer)
    H, K, V = mixer.num_value_heads, mixer.key_dim, mixer.value_dim
    q, k, v = _queries_keys_values(mixer, p, x)
    a = torch.exp(-p["A_log"].exp() * softplus(x @ p["a_proj.weight"].T + p["dt_bias"]))
    beta = mixer.erase_range * torch.sigmoid(x @ p["b_proj.weight"].T)

    def step(S: Tensor, t: int, head: int) -> tuple[Tensor, Tensor]:
        key = k[t, head * mixer.num_heads // H]
        S = a[t, head] * (S - beta[t, head] * outer(key, S.T @ key)) + beta[t, head] * outer(key, v[t, head])
        return S, S.T @ q[t, head * mixer.num_heads // H] / math.sqrt(K)

    return _gated_output(mixer, p, x, _run(step, x, H, (K, V)))


def delta_net(mixer: Any, x: Tensor) -> Tensor:
    """S_t = S_{t-1} + beta k (v - S_{t-1}^T k)^T, arXiv:2406.06484."""
    p = parameters(mixer)
    K, V = mixer.key_dim, mixer.value_dim
    q, k, v = _queries_keys_values(mixer, p, x)
    beta = mixer.erase_range * torch.sigmoid(x @ p["b_proj.weight"].T)

    def step(S: Tensor, t: int, head: int) -> tuple[Tensor, Tensor]:
        S = S + beta[t, head] * outer(k[t, head], v[t, head] - S.T @ k[t, head])
        return S, S.T @ q[t, head] / math.sqrt(K)

    return _gated_output(mixer, p, x, _run(step, x, mixer.num_heads, (K, V)))


def gla(mixer: Any, x: Tensor) -> Tensor:
    """S_t = Diag(a) S_{t-1} + k v^T, arXiv:2312.06635."""
    p = parameters(mixer)
    H, K, V = mixer.num_heads, mixer.key_dim, mixer.value_dim
    q, k, v = (x @ p[f"{name}_proj.weight"].T for name in "qkv")
    q, k, v = q.view(-1, H, K), k.view(-1, H, K), v.view(-1, H, V)
    a = torch.exp(logsigmoid(low_rank(p, "gk_proj", x)) / mixer.normalizer).view(-1, H, K)

    def step(S: Tensor, t: int, head: int) -> tuple[Tensor, Tensor]:
        S = a[t, head][:, None] * S + outer(k[t, head], v[t, head])
        return S, S.T @ q[t, head] / math.sqrt(K)

    return _gated_output(mixer, p, x, _run(step, x, H, (K, V)))


def mamba2(mixer: Any, x: Tensor) -> Tensor:
    """h_t = exp(Delta A) h_{t-1} + Delta B u^T, y = h^T C + D u, arXiv:2405.21060."""
    p = parameters(mixer)
    H, N, P, G = mixer.num_heads, mixer.state_size, mixer.head_dim, mixer.groups
    z, xBC, dt = linear(p, "in_proj", x).split([H * P, H * P + 2 * G * N, H], dim=-1)
    xBC = silu(convolve(xBC, p["conv1d.weight"], p.get("conv1d.bias")))
    u, B, C = xBC.split([H * P, G * N, G * N], dim=-1)
    u, B, C = u.view(-1, H, P), B.view(-1, G, N), C.view(-1, G, N)
    delta = softplus(dt + p["dt_bias"])
    A = -p["A_log"].exp()

    def step(S: Tensor, t: int, head: int) -> tuple[Tensor, Tensor]:
        group = head * G // H
        S = torch.exp(delta[t, head] * A[head]) * S + delta[t, head] * outer(B[t, group], u[t, head])
        return S, S.T @ C[t, group] + p["D"][head] * u[t, head]

    y = _run(step, x, H, (N, P)).flatten(1) * silu(z)
    y = rms(y.view(-1, G, H * P // G), mixer.norm.eps).flatten(1) * p["norm.weight"]
    return linear(p, "out_proj", y)


def mamba3(mixer: Any, x: Tensor) -> Tensor:
    """The exponential-trapezoidal rule with a rotating state, one input a head (SISO), arXiv:2603.15569."""
    return _mamba3(mixer, x, parameters(mixer), mimo=False)


def mamba3_mimo(mixer: Any, x: Tensor) -> Tensor:
    """The same with R inputs and outputs a head (MIMO)."""
    return _mamba3(mixer, x, parameters(mixer), mimo=True)


def _mamba3(mixer: Any, x: Tensor, p: dict[str, Tensor], *, mimo: bool) -> Tensor:
    H, N, P, G, R = mixer.num_heads, mixer.state_size, mixer.head_dim, mixer.groups, mixer.rank
    sizes = [H * P, H * P, R * G * N, R * G * N, H, H, H, mixer.num_angles]
    z, u, B, C, dt, a, trap, theta = linear(p, "in_proj", x).split(sizes, dim=-1)
    z, u = z.view(-1, H, P), u.view(-1, H, P)
    B = rms(B.view(-1, R, G, N), mixer.B_norm.eps) * p["B_norm.weight"]
    C = rms(C.view(-1, R, G, N), mixer.C_norm.eps) * p["C_norm.weight"]
    heavy = torch.where(a >= 0, 1 + a, 1 / (1 + a.abs()))
    A = -(heavy if mixer.rate == "heavy_tail" else softplus(a)).clamp(min=1e-4)
    delta, lam = softplus(dt + p["dt_bias"]), torch.sigmoid(trap)
    ones = torch.ones(H, R, P, dtype=x.dtype)
    into, gate, out = (p[f"mimo_{part}"] if mimo else ones for part in "xzo")
    y = zeros(len(x), H, P)
    for h in range(H):
        S, angle = zeros(N, P), zeros(mixer.num_angles)
        k_last, u_last = zeros(R, N), zeros(P)
        for t in range(len(x)):
            angle = angle + math.pi * torch.tanh(theta[t]) * delta[t, h]
            k = rotate(B[t, :, h * G // H] + p["B_bias"][h], angle, adjacent=not mimo)
            q = rotate(C[t, :, h * G // H] + p["C_bias"][h], angle, adjacent=not mimo)
            decay = torch.exp(delta[t, h] * A[t, h])
            S = decay * S
            for r in range(R):
                S = S + (1 - lam[t, h]) * delta[t, h] * decay * outer(k_last[r], into[h, r] * u_last)
                S = S + lam[t, h] * delta[t, h] * outer(k[r], into[h, r] * u[t, h])
            for r in range(R):
                o = S.T @ q[r] + p["D"][h] * into[h, r] * u[t, h]
                if mixer.norm is not None:
                    o = rms(o, mixer.norm.eps) * p["norm.weight"].view(H, P)[h]
                y[t, h] += out[h, r] * o * silu(gate[h, r] * z[t, h])
            k_last, u_last = k, u[t, h]
    return linear(p, "out_proj", y.flatten(1))


def _a_head(y: Tensor, gate: str) -> Callable[[int, int], Tensor]:
    """What a gate of GDN-2 is the sigmoid of, [T, heads, channels]."""

    def spread(heads: int, channels: int) -> Tensor:
        if gate == "channel":
            return y.view(-1, heads, channels)
        one = y.view(-1, heads, channels).sum(-1) / channels if gate == "mean" else y
        return one[..., None].expand(-1, heads, channels)

    return spread


def _queries_keys_values(mixer: Any, p: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    how: dict[str, Any] = {"silu": silu, "relu": torch.relu, "elu": lambda y: elu(y) + 1, "identity": lambda y: y}
    activation = how[getattr(mixer, "activation", "silu")]
    q, k, v = (convolve(x @ p[f"{n}_proj.weight"].T, p[f"{n}_conv1d.weight"], None) for n in "qkv")
    q, k = (activation(part).view(len(x), mixer.num_heads, mixer.key_dim) for part in (q, k))
    if getattr(mixer, "norm", "l2") == "l2":
        q, k = (part / torch.sqrt((part * part).sum(-1, keepdim=True) + 1e-6) for part in (q, k))
    else:
        q, k = (part / part.abs().sum(-1, keepdim=True).clamp(min=1e-6) for part in (q, k))
    return q, k, silu(v).view(len(x), mixer.num_value_heads, mixer.value_dim)


def _run(step: Step, x: Tensor, heads: int, shape: tuple[int, int]) -> Tensor:
    """Outputs [T, H, V] of a recurrence that starts from S = 0."""
    outputs = zeros(len(x), heads, shape[1])
    for head in range(heads):
        S = zeros(shape)
        for t in range(len(x)):
            S, outputs[t, head] = step(S, t, head)
    return outputs


def _gated_output(mixer: Any, p: dict[str, Tensor], x: Tensor, o: Tensor) -> Tensor:
    o = (rms(o, mixer.o_norm.eps) * p["o_norm.weight"]).flatten(1)
    if mixer.gate != "none":
        gate = low_rank(p, "g_proj", x) if "g_proj.0.weight" in p else linear(p, "g_proj", x)
        o = o * (silu(gate) if mixer.gate == "silu" else torch.sigmoid(gate))
    return linear(p, "o_proj", o)


REFERENCES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "gdn2": gdn2,
    "kda": kda,
    "gated_deltanet": gated_deltanet,
    "delta_net": delta_net,
    "gla": gla,
    "mamba2": mamba2,
    "mamba3": mamba3,
    "mamba3_mimo": mamba3_mimo,
    "attention": attention,
    "swa": swa,
    "mla": mla,
}
