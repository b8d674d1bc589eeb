"""DeltaNet (arXiv:2102.11174, arXiv:2406.06484): one beta a head, no decay.

Letters: B batch, T tokens, H heads, K key dim, V value dim.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, normalize, silu

from gdn2.config import OUTPUT_GATES, GDN2Config
from gdn2.mixers.base import QKVMixer, run_operator, scaled_sigmoid
from gdn2.modules import unit_length, wide
from gdn2.padding import Padding
from gdn2.state import LayerState

SUM_EPS = 1e-6


class DeltaNet(QKVMixer):
    """The operator with b = w = beta = erase_range * sigmoid(b_proj(x)), a number a head, and g = 0.

    q and k are norm(activation(conv(x W))) with `qk_norm` and `qk_activation`. State: H * K * V floats.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config, gate=OUTPUT_GATES["delta_net"])
        self.activation, self.norm = config.qk_activation, config.qk_norm
        self.b_proj = nn.Linear(config.hidden_size, self.num_heads, bias=False)

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        read = self.read(x)
        q, k, v, conv = self.project(read, state, padding, activate=self.activation == "silu")
        if self.activation != "silu":
            v = silu(v)
        beta = scaled_sigmoid(wide(read(self.b_proj)), self.erase_range).to(x.dtype)[..., None]
        q, k = self.features(q), self.features(k)
        g = torch.zeros((), dtype=wide(x[:0]).dtype, device=x.device)
        steps = (q, k, v, g.expand_as(k), beta.expand_as(k), beta.expand_as(v))
        o, matrix = run_operator(*steps, state.matrix, padding)
        return self.gate_and_project(o, read), LayerState(matrix, conv)

    def features(self, x: Tensor) -> Tensor:
        """A convolved query or key [B, T, H, K], activated (silu has been) and normalised."""
        if self.activation == "relu":
            x = x.relu()
        elif self.activation == "elu":
            x = elu(x) + 1
        return unit_length(x) if self.norm == "l2" else normalize(x, p=1, dim=-1, eps=SUM_EPS)
