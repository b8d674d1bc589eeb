"""Mamba-2 (arXiv:2405.21060): a state space model with one decay a head.

Letters: B batch, T tokens, H heads, N state size, P channels of a head, G groups of heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from gdn2.config import GDN2Config
from gdn2.mixers.base import Mixer, initial_A_log, initial_dt_bias, run_operator, state_dtype
from gdn2.modules import Linear, RMSNorm, ShortConvolution, convolve, wide
from gdn2.padding import Padding
from gdn2.state import LayerState


class Mamba2(Mixer):
    """The operator with q = C, k = B, v = x, b = 0, w = Delta, g = -exp(A_log) Delta and scale 1; plus D x.

    [z, x, B, C, dt] = in_proj(u), x, B and C convolved, Delta = softplus(dt + dt_bias),
    y = out_proj(RMSNorm(o * silu(z))), the norm over the heads of a group. State: H * N * P floats.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        self.num_heads, self.state_size, self.groups = config.num_heads, config.head_dim, config.ssm_groups
        self.head_dim: int = config.value_head_dim  # type: ignore[assignment]
        inner = self.num_heads * self.head_dim
        self.conv_channels = (inner, self.groups * self.state_size, self.groups * self.state_size)
        self.projections = (inner, sum(self.conv_channels), self.num_heads)
        self.conv_size = config.conv_size
        self.in_proj = Linear(config.hidden_size, sum(self.projections), bias=config.ssm_bias)
        self.conv1d = ShortConvolution(sum(self.conv_channels), config.conv_size, bias=config.ssm_conv_bias)
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.dt_bias = nn.Parameter(torch.empty(self.num_heads))
        self.D = nn.Parameter(torch.empty(self.num_heads))
        self.norm = RMSNorm(inner, config.mixer_eps, self.groups)
        self.out_proj = Linear(inner, config.hidden_size, bias=config.ssm_bias)

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token."""
        weight, shape = self.in_proj.weight, (self.num_heads, self.state_size, self.head_dim)
        conv = weight.new_zeros(batch_size, self.conv_size - 1, sum(self.conv_channels))
        return LayerState(weight.new_zeros(batch_size, *shape, dtype=state_dtype(weight)), conv)

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        B, T, _ = x.shape
        assert state.conv is not None
        z, xBC, dt = self.in_proj(x).split(self.projections, dim=-1)
        xBC, conv = convolve(xBC, self.conv1d.weight, self.conv1d.bias, state.conv, padding)
        values, k, q = xBC.split(self.conv_channels, dim=-1)
        v = values.reshape(B, T, self.num_heads, self.head_dim)
        q, k = (part.unflatten(-1, (self.groups, -1)) for part in (q, k))
        q, k = (part.repeat_interleave(self.num_heads // self.groups, dim=2) for part in (q, k))

        delta = softplus(wide(dt) + self.dt_bias.to(state.matrix.dtype))[..., None]  # type: ignore[union-attr]
        g = -self.A_log.to(delta.dtype).exp()[:, None] * delta
        zero = torch.zeros_like(x[0, 0, 0])
        steps = (q, k, v, g.expand_as(k), zero.expand_as(k), delta.to(x.dtype).expand_as(v))
        o, matrix = run_operator(*steps, state.matrix, padding, scale=1.0)
        o = wide(o) + self.D.to(delta.dtype)[:, None] * wide(v)
        y = self.norm(o.flatten(2) * silu(wide(z))).to(x.dtype)
        return self.out_proj(y), LayerState(matrix, conv)

    def initial_values(self) -> dict[str, Tensor]:
        """Rates, biases and skips a head."""
        heads = self.num_heads
        return {"A_log": initial_A_log(heads), "dt_bias": initial_dt_bias(heads), "D": torch.ones(heads)}
