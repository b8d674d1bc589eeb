"""Kimi Delta Attention (arXiv:2510.26692): one beta a head erases and writes, the decay is a key channel's.

Letters: B batch, T tokens, H heads, K key dim, V value dim, G value heads a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gdn2.config import OUTPUT_GATES, GDN2Config
from gdn2.mixers.base import QKVMixer, initial_A_log, initial_dt_bias, run_operator, scaled_sigmoid, softplus_decay
from gdn2.mixers.stepping import low_rank_decay
from gdn2.modules import Linear, wide
from gdn2.padding import Padding
from gdn2.products import Products
from gdn2.state import LayerState

if TYPE_CHECKING:
    from gdn2.ops.triton.stepping import LowRankDecay


class KimiDeltaAttention(QKVMixer):
    """The operator with b = w = beta = erase_range * sigmoid(b_proj(x)), one number a value head.

    g = -exp(A_log) * softplus(f_proj(x) + dt_bias) a key channel of each value head; with `decay_floor` instead
    decay_floor * sigmoid(exp(A_log) * (f_proj(x) + dt_bias)). State: H * G * K * V floats.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config, gate=OUTPUT_GATES["kda"], low_rank_gate=True)
        D, keys = config.hidden_size, self.num_value_heads * self.key_dim
        rank: int = config.gate_rank  # type: ignore[assignment]
        self.decay_floor = config.decay_floor
        self.b_proj = Linear(D, self.num_value_heads, bias=False)
        self.f_proj = nn.Sequential(Linear(D, rank, bias=False), Linear(rank, keys, bias=False))
        self.A_log = nn.Parameter(torch.empty(self.num_value_heads))
        self.dt_bias = nn.Parameter(torch.empty(keys))

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        read = self.read(x)
        q, k, v, conv = self.project(read, state, padding, unit=True)
        q, k = self.to_value_heads(q), self.to_value_heads(k)
        beta = scaled_sigmoid(wide(read(self.b_proj)), self.erase_range).to(x.dtype)[..., None]
        steps = (q, k, v, self.log_decay(read).view(k.shape), beta.expand_as(k), beta.expand_as(v))
        o, matrix = run_operator(*steps, state.matrix, padding)
        return self.gate_and_project(o, read), LayerState(matrix, conv)

    def log_decay(self, read: Products) -> Tensor:
        """Compute g [B, T, H * G * K] <= 0."""
        if read.decay is not None:
            return read.decay
        f = read(self.f_proj)
        if self.decay_floor is None:
            return softplus_decay(f, self.A_log, self.dt_bias)
        f, A_log = wide(f), self.A_log.repeat_interleave(self.key_dim)
        return self.decay_floor * torch.sigmoid(A_log.to(f.dtype).exp() * (f + self.dt_bias.to(f.dtype)))

    def decay_of_step(self, read: Products) -> LowRankDecay | None:
        """What a step's kernel makes the decay of, where that has no floor."""
        return None if self.decay_floor is not None else low_rank_decay(read, self.f_proj, self.A_log, self.dt_bias)

    def initial_values(self) -> dict[str, Tensor]:
        """Rates a value head, biases a channel; a bounded decay starts with rates of 1."""
        heads = self.num_value_heads
        A_log = initial_A_log(heads) if self.decay_floor is None else torch.zeros(heads)
        return {"A_log": A_log, "dt_bias": initial_dt_bias(heads * self.key_dim)}
