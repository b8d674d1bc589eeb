"""Gated linear attention (arXiv:2312.06635): a decay a key channel, nothing erased, everything written.

Letters: B batch, T tokens, H heads, K key dim, V value dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from gdn2.config import OUTPUT_GATES, GDN2Config
from gdn2.mixers.base import QKVMixer, run_operator
from gdn2.modules import wide
from gdn2.padding import Padding
from gdn2.state import LayerState


class GatedLinearAttention(QKVMixer):
    """The operator with b = 0 and w = 1; q, k and v are plain projections.

    g = logsigmoid(gk_proj(x)) / gla_gate_normalizer. State: H * K * V floats.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config, gate=OUTPUT_GATES["gla"], convolution=False)
        rank, keys = config.gla_gate_rank, self.channels[0]
        self.normalizer = config.gla_gate_normalizer
        self.gk_proj = nn.Sequential(nn.Linear(config.hidden_size, rank, bias=False), nn.Linear(rank, keys, bias=True))

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        read = self.read(x)
        q, k, v, _ = self.project(read, state, padding)
        g = (logsigmoid(wide(read(self.gk_proj))) / self.normalizer).view(k.shape)
        zero, one = torch.zeros_like(x[0, 0, 0]), torch.ones_like(x[0, 0, 0])
        o, matrix = run_operator(q, k, v, g, zero.expand_as(k), one.expand_as(v), state.matrix, padding)
        return self.gate_and_project(o, read), LayerState(matrix)
