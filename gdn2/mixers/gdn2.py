"""The Gated DeltaNet-2 mixer (arXiv:2605.22791): projections, gates and the operator.

Letters: B batch, T tokens, H heads, K key dim, V value dim, G value heads a head, D width of the residual stream.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu, softplus

from gdn2.config import GDN2Config
from gdn2.modules import RMSNorm, ShortConvolution, last_inputs, short_convolution
from gdn2.ops import gated_delta_rule_2
from gdn2.padding import Padding
from gdn2.state import LayerState

L2_EPS = 1e-6


class GatedDeltaNet2(nn.Module):
    """x -> q, k, v (convolved, q and k of unit length), log-decay g, erase gate b, write gate w -> operator -> o.

    g = -exp(A_log) * softplus(f_proj(x) + dt_bias), b = erase_range * sigmoid(b_proj(x)), w = sigmoid(w_proj(x)),
    y = o_proj(RMSNorm(o) * gate(g_proj(x))), the norm per value head.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        D, self.num_heads, self.key_dim = config.hidden_size, config.num_heads, config.head_dim
        self.value_dim: int = config.value_head_dim  # type: ignore[assignment]
        self.num_value_heads: int = config.num_value_heads  # type: ignore[assignment]
        rank: int = config.gate_rank  # type: ignore[assignment]
        keys, values = self.num_heads * self.key_dim, self.num_value_heads * self.value_dim
        self.channels = (keys, keys, values)
        self.conv_size = config.conv_size
        self.erase_range = config.erase_range
        self.gate = silu if config.output_gate == "silu" else torch.sigmoid

        self.q_proj = nn.Linear(D, keys, bias=False)
        self.k_proj = nn.Linear(D, keys, bias=False)
        self.v_proj = nn.Linear(D, values, bias=False)
        self.b_proj = nn.Linear(D, keys, bias=False)
        self.w_proj = nn.Linear(D, values, bias=False)
        self.q_conv1d = ShortConvolution(keys, config.conv_size)
        self.k_conv1d = ShortConvolution(keys, config.conv_size)
        self.v_conv1d = ShortConvolution(values, config.conv_size)
        self.f_proj = nn.Sequential(nn.Linear(D, rank, bias=False), nn.Linear(rank, keys, bias=False))
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.dt_bias = nn.Parameter(torch.empty(keys))
        self.g_proj = nn.Sequential(nn.Linear(D, rank, bias=False), nn.Linear(rank, values, bias=True))
        self.o_norm = RMSNorm(self.value_dim, config.norm_eps)
        self.o_proj = nn.Linear(values, D, bias=False)

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token."""
        parameter = self.q_proj.weight
        width = self.num_value_heads // self.num_heads * self.value_dim
        dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
        matrix = parameter.new_zeros(batch_size, self.num_heads, self.key_dim, width, dtype=dtype)
        return LayerState(matrix, parameter.new_zeros(batch_size, self.conv_size - 1, sum(self.channels)))

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """x [B, T, D] -> (y [B, T, D], the state after each row's last real token)."""
        B, T, _ = x.shape
        qkv = linear(x, torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]))
        if padding is not None:
            qkv = qkv.masked_fill(padding.is_pad, 0.0)
        taps = torch.cat([self.q_conv1d.weight, self.k_conv1d.weight, self.v_conv1d.weight])
        convolved = short_convolution(qkv, taps, state.conv)
        conv = last_inputs(qkv, state.conv, None if padding is None else padding.ends)

        heads = (B, T, self.num_heads, -1)
        q, k, v = (part.reshape(heads) for part in convolved.split(self.channels, dim=-1))
        q, k = _unit_length(q), _unit_length(k)
        g = self.log_decay(x).view(heads)
        if padding is not None:  # k = 0 and g = 0: a step that changes nothing
            k = k.masked_fill(padding.is_pad[..., None], 0.0)
            g = g.masked_fill(padding.is_pad[..., None], 0.0)
        b = (self.erase_range * torch.sigmoid(self.b_proj(x))).view(heads)
        w = torch.sigmoid(self.w_proj(x)).view(heads)
        # Value head h * G + j belongs to head h: a group is one head whose values are G * V channels wide.
        o, matrix = gated_delta_rule_2(q, k, v, g, b, w, initial_state=state.matrix, output_final_state=True)
        assert matrix is not None
        o = self.o_norm(o.reshape(B, T, self.num_value_heads, self.value_dim)).flatten(2)
        return self.o_proj(o * self.gate(self.g_proj(x))), LayerState(matrix, conv)

    def log_decay(self, x: Tensor) -> Tensor:
        """g [B, T, H * K] <= 0, in at least float32: a decay of 0.9999 has no bfloat16."""
        f = self.f_proj(x)
        f = f if f.dtype == torch.float64 else f.float()
        rate = self.A_log.to(f.dtype).exp().repeat_interleave(self.key_dim)
        return -rate * softplus(f + self.dt_bias.to(f.dtype))

    @torch.no_grad()
    def initial_gates(self) -> tuple[Tensor, Tensor]:
        """Fresh values of (A_log, dt_bias): exp(A_log) ~ U(1, 16), and softplus(dt_bias) log-uniform in [1e-3, 0.1]."""
        A = torch.empty(self.num_heads).uniform_(1, 16)
        low, high = math.log(1e-3), math.log(0.1)
        dt = torch.empty(self.channels[0]).uniform_(low, high).exp().clamp(min=1e-4)
        return A.log(), dt + torch.log(-torch.expm1(-dt))


def _unit_length(x: Tensor) -> Tensor:
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * (wide.square().sum(-1, keepdim=True) + L2_EPS).rsqrt()).to(x.dtype)
