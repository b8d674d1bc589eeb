"""Gated DeltaNet (arXiv:2412.06464): one beta and one decay a head.

Letters: B batch, T tokens, H heads, K key dim, V value dim, G value heads a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn2.config import OUTPUT_GATES, GDN2Config
from gdn2.mixers.base import QKVMixer, initial_A_log, initial_dt_bias, run_operator, scaled_sigmoid, softplus_decay
from gdn2.modules import Linear, wide
from gdn2.padding import Padding
from gdn2.state import LayerState

SMALLEST_RATE = 1e-2  # of exp(A_log) ~ U(0, 16), whose logarithm must be finite


class GatedDeltaNet(QKVMixer):
    """The operator with b = w = beta = erase_range * sigmoid(b_proj(x)) and the same g in all channels of a head.

    g = -exp(A_log) * softplus(a_proj(x) + dt_bias), a number a value head. State: H * G * K * V floats.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config, gate=OUTPUT_GATES["gated_deltanet"])
        self.a_proj = Linear(config.hidden_size, self.num_value_heads, bias=False)
        self.b_proj = Linear(config.hidden_size, self.num_value_heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(self.num_value_heads))
        self.dt_bias = nn.Parameter(torch.empty(self.num_value_heads))

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        read = self.read(x)
        q, k, v, conv = self.project(read, state, padding, unit=True)
        q, k = self.to_value_heads(q), self.to_value_heads(k)
        beta = scaled_sigmoid(wide(read(self.b_proj)), self.erase_range).to(x.dtype)[..., None]
        g = softplus_decay(read(self.a_proj), self.A_log, self.dt_bias)[..., None]
        steps = (q, k, v, g.expand_as(k), beta.expand_as(k), beta.expand_as(v))
        o, matrix = run_operator(*steps, state.matrix, padding)
        return self.gate_and_project(o, read), LayerState(matrix, conv)

    def initial_values(self) -> dict[str, Tensor]:
        """Rates and biases a value head."""
        heads = self.num_value_heads
        return {"A_log": initial_A_log(heads, low=SMALLEST_RATE), "dt_bias": initial_dt_bias(heads)}
