"""Mamba-3 (arXiv:2603.15569) as settings of the operator.

It has a trapezoidal rule for the input, a rotating state, and optionally several inputs and outputs a head (MIMO).

Letters: B batch, T tokens, H heads, N state size, P channels of a head, R rank, G groups of heads, A angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus

from gdn2.config import GDN2Config
from gdn2.mixers.base import Mixer, initial_dt_bias, run_operator, state_dtype
from gdn2.modules import RMSNorm, last_inputs, rotate_halves, wide
from gdn2.padding import Padding
from gdn2.state import LayerState

MIN_RATE = 1e-4  # of -A


@dataclass(frozen=True)
class Inputs:
    """What the recurrence of a layer reads, in at least float32.

    Attributes:
        z: the gate, [B, T, H, P].
        x: the values, [B, T, H, P].
        key: keys before their rotation, [B, T, R, H, N].
        query: queries before their rotation, [B, T, R, H, N].
        log_decay: Delta A, [B, T, H].
        now: lambda Delta, the weight of this token's input, [B, T, H].
        later: (1 - lambda) Delta, the weight of the token before, [B, T, H].
        angle: radians of this token, [B, T, H, A].
    """

    z: Tensor
    x: Tensor
    key: Tensor
    query: Tensor
    log_decay: Tensor
    now: Tensor
    later: Tensor
    angle: Tensor


class Mamba3(Mixer):
    """Mamba-3 with one input and output a head.

    S_t = a_t S_{t-1} + later_t a_t k_{t-1} x_{t-1}^T + now_t k_t x_t^T and y_t = S_t^T q_t + D x_t, with
    a_t = exp(Delta A); k and q are B + bias and C + bias turned by the angle pi sum_s tanh(theta_s) Delta_s.

    The operator writes each token once, with the weight now_t + later_{t+1}, so that all later tokens find the right
    state; what the token itself sees too much of is subtracted. A segment's last token gets now_t only, and the state
    keeps its k and x. With rank R ("mamba3_mimo") a token is R steps, of which the first decays: k^r, q^r,
    x^r = mimo_x^r * x; outputs are gated by silu(mimo_z^r * z) and summed with the weights mimo_o^r.

    in_proj gives [z, x, B, C, dt, a, trap, theta]. State: H * N * P floats, and R * H * N + H * P + H * A beside them.
    """

    mimo = False

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        self.num_heads, self.state_size, self.groups = config.num_heads, config.head_dim, config.ssm_groups
        self.head_dim: int = config.value_head_dim  # type: ignore[assignment]
        self.rank = config.ssm_rank if self.mimo else 1
        self.num_angles = int(self.state_size * config.ssm_rope_fraction) // 2
        self.rate = config.ssm_rate
        H, inner, keys = self.num_heads, self.num_heads * self.head_dim, self.rank * self.groups * self.state_size
        self.projections = (inner, inner, keys, keys, H, H, H, self.num_angles)
        self.in_proj = nn.Linear(config.hidden_size, sum(self.projections), bias=config.ssm_bias)
        self.dt_bias = nn.Parameter(torch.empty(H))
        self.B_bias = nn.Parameter(torch.empty(H, self.rank, self.state_size))
        self.C_bias = nn.Parameter(torch.empty(H, self.rank, self.state_size))
        self.B_norm = RMSNorm(self.state_size, config.mixer_eps)
        self.C_norm = RMSNorm(self.state_size, config.mixer_eps)
        if self.mimo:
            self.mimo_x = nn.Parameter(torch.empty(H, self.rank, self.head_dim))
            self.mimo_z = nn.Parameter(torch.empty(H, self.rank, self.head_dim))
            self.mimo_o = nn.Parameter(torch.empty(H, self.rank, self.head_dim))
        self.D = nn.Parameter(torch.empty(H))
        self.norm = RMSNorm(inner, config.mixer_eps, H) if config.ssm_output_norm else None
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=config.ssm_bias)

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token."""
        weight, H, N, P = self.in_proj.weight, self.num_heads, self.state_size, self.head_dim
        shapes = {
            "matrix": (H, N, P),
            "previous_key": (self.rank, H, N),
            "previous_value": (H, P),
            "angle": (H, self.num_angles),
        }
        dtype = state_dtype(weight)
        return LayerState(**{name: weight.new_zeros(batch_size, *s, dtype=dtype) for name, s in shapes.items()})

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        B, T, _ = x.shape
        assert state.matrix is not None
        assert state.previous_key is not None
        assert state.previous_value is not None
        inputs = self.read(x, padding)
        angle = self.rotation(inputs, state)
        key, query = self.rotate(inputs.key, angle), self.rotate(inputs.query, angle)
        values = self.ranks(inputs.x)  # [B, T, R, H, P]

        following = pad(inputs.later[:, 1:], (0, 0, 0, 1))
        carried = torch.einsum("brhn,brhp->bhnp", state.previous_key, self.ranks(state.previous_value[:, None])[:, 0])
        start = state.matrix + inputs.later[:, 0, :, None, None] * carried
        weight = (inputs.now + following)[:, :, None].expand(B, T, self.rank, -1)
        log_decay = pad(inputs.log_decay[:, :, None], (0, 0, 0, self.rank - 1))
        q, k, v, g, w = (part.flatten(1, 2) for part in (query, key, values, log_decay[..., None], weight[..., None]))
        q, k, v, w = (part.to(x.dtype) for part in (q, k, v, w))
        zero = torch.zeros_like(x[0, 0, 0])
        o, matrix = run_operator(q, k, v, g.expand_as(k), zero.expand_as(k), w.expand_as(v), start, None, scale=1.0)
        o = wide(o).unflatten(1, (T, self.rank)) + self.same_token(inputs, values, following)
        o = o + self.D.to(o.dtype)[:, None] * values

        ends = None if padding is None else padding.ends
        previous_key = last_inputs(key.flatten(2), state.previous_key.flatten(1)[:, None], ends)
        previous_value = last_inputs(inputs.x.flatten(2), state.previous_value.flatten(1)[:, None], ends)
        y = self.out_proj(self.gate(o, inputs.z).to(x.dtype))
        tail = (previous_key.view(state.previous_key.shape), previous_value.view(state.previous_value.shape))
        return y, LayerState(matrix, previous_key=tail[0], previous_value=tail[1], angle=angle[:, -1].clone())

    def read(self, x: Tensor, padding: Padding | None) -> Inputs:
        """The projections of x. Padding has Delta = 0 and key 0: it neither decays, rotates nor writes."""
        z, values, key, query, dt, a, trap, theta = wide(self.in_proj(x)).split(self.projections, dim=-1)
        ranks = (self.rank, self.groups, self.state_size)
        key, query = self.B_norm(key.unflatten(-1, ranks)), self.C_norm(query.unflatten(-1, ranks))
        repeats = self.num_heads // self.groups
        key = key.repeat_interleave(repeats, dim=3) + self.B_bias.to(key.dtype).transpose(0, 1)
        query = query.repeat_interleave(repeats, dim=3) + self.C_bias.to(query.dtype).transpose(0, 1)
        delta = softplus(dt + self.dt_bias.to(dt.dtype))
        if padding is not None:
            delta = delta.masked_fill(padding.is_pad, 0.0)
            key = key.masked_fill(padding.is_pad[..., None, None], 0.0)
        heavy = self.rate == "heavy_tail"
        rate = torch.where(a >= 0, 1 + a, 1 / (1 - a.clamp(max=0))) if heavy else softplus(a)
        now = torch.sigmoid(trap) * delta
        return Inputs(
            z=z.unflatten(-1, (self.num_heads, -1)),
            x=values.unflatten(-1, (self.num_heads, -1)),
            key=key,
            query=query,
            log_decay=-rate.clamp(min=MIN_RATE) * delta,
            now=now,
            later=delta - now,
            angle=math.pi * torch.tanh(theta)[:, :, None] * delta[..., None],
        )

    def rotation(self, inputs: Inputs, state: LayerState) -> Tensor:
        """The angles [B, T, H, A] after each token, in [0, 2 pi); summed in float64, since a text may be long."""
        assert state.angle is not None
        angle = state.angle.double()[:, None] + inputs.angle.double().cumsum(1)
        return angle.remainder(2 * math.pi).to(inputs.angle.dtype)

    def rotate(self, x: Tensor, angle: Tensor) -> Tensor:
        """Keys or queries [B, T, R, H, N] turned; pairs of channels are (2i, 2i + 1), in MIMO layers (i, i + N/2)."""
        angle = pad(angle, (0, self.state_size // 2 - self.num_angles))[:, :, None]
        if self.mimo:
            return rotate_halves(x, angle)
        halves = rotate_halves(torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1), angle)
        return torch.stack(halves.chunk(2, dim=-1), dim=-1).flatten(-2)

    def ranks(self, x: Tensor) -> Tensor:
        """Values [B, T, H, P] as the R steps see them, [B, T, R, H, P]."""
        return torch.einsum("bthp,hrp->btrhp", x, self.mimo_x.to(x.dtype)) if self.mimo else x[:, :, None]

    def same_token(self, inputs: Inputs, values: Tensor, following: Tensor) -> Tensor:
        """What a token sees of itself, less what the operator gave it; the rotation cancels between q and k."""
        scores = torch.einsum("btrhn,btshn->bthrs", inputs.query, inputs.key)
        seen = torch.ones(self.rank, self.rank, dtype=scores.dtype, device=scores.device).tril()
        given = (inputs.now + following)[..., None, None] * seen
        return torch.einsum("bthrs,btshp->btrhp", (inputs.now[..., None, None] - given) * scores, values)

    def gate(self, o: Tensor, z: Tensor) -> Tensor:
        """Outputs of all ranks [B, T, R, H, P] normalised (or not), gated and summed to [B, T, H * P]."""
        if self.norm is not None:
            o = self.norm(o.flatten(-2)).view(o.shape)
        if not self.mimo:
            return (o[:, :, 0] * silu(z)).flatten(2)
        gates = silu(torch.einsum("bthp,hrp->btrhp", z, self.mimo_z.to(z.dtype)))
        return torch.einsum("btrhp,hrp->bthp", o * gates, self.mimo_o.to(o.dtype)).flatten(2)

    def initial_values(self) -> dict[str, Tensor]:
        """Biases a head; keys and queries start with biases of 1, ranks as equal shares."""
        H, shape = self.num_heads, (self.num_heads, self.rank, self.state_size)
        values = {"dt_bias": initial_dt_bias(H), "D": torch.ones(H)}
        values |= {"B_bias": torch.ones(shape), "C_bias": torch.ones(shape)}
        if self.mimo:
            ones = torch.ones(H, self.rank, self.head_dim)
            values |= {"mimo_x": ones / self.rank, "mimo_z": ones, "mimo_o": ones / self.rank}
        return values


class Mamba3MIMO(Mamba3):
    """Mamba-3 with `ssm_rank` inputs and outputs a head."""

    mimo = True
