"""The Gated DeltaNet-2 mixer (arXiv:2605.22791): projections, gates and the operator.

Letters: B batch, T tokens, H heads, K key dim, V value dim, G value heads a head.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gdn2.config import OUTPUT_GATES, GDN2Config
from gdn2.mixers.base import QKVMixer, initial_A_log, initial_dt_bias, run_operator, scaled, softplus_decay
from gdn2.mixers.stepping import low_rank_decay
from gdn2.modules import Linear
from gdn2.padding import Padding
from gdn2.products import Products
from gdn2.state import LayerState

if TYPE_CHECKING:
    from gdn2.ops.triton.stepping import LowRankDecay


class GatedDeltaNet2(QKVMixer):
    """x -> q, k, v (convolved, q and k of unit length), log-decay g, erase gate b, write gate w -> operator -> o.

    g = -exp(A_log) * softplus(f_proj(x) + dt_bias), b = erase_range * sigmoid(b_proj(x)), w = sigmoid(w_proj(x)),
    y = o_proj(RMSNorm(o) * gate(g_proj(x))), the norm per value head. State: H * K * G * V floats.

    With `erase_gate` or `write_gate` "mean" or "head" that gate is one number a head, as in the paper's ablation
    (table 5): of all channels' projections, or of a projection that has one output a head.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config, gate=OUTPUT_GATES["gdn2"], low_rank_gate=True)
        keys, _, values = self.channels
        # Value head h * G + j belongs to head h: a group is one head whose values are G * V channels wide.
        self.state_shape = (self.num_heads, self.key_dim, values // self.num_heads)
        rank: int = config.gate_rank  # type: ignore[assignment]
        self.gates = (config.erase_gate, config.write_gate)
        erased = self.num_heads if config.erase_gate == "head" else keys
        written = self.num_value_heads if config.write_gate == "head" else values
        self.b_proj = Linear(config.hidden_size, erased, bias=False)
        self.w_proj = Linear(config.hidden_size, written, bias=False)
        self.f_proj = nn.Sequential(Linear(config.hidden_size, rank, bias=False), Linear(rank, keys, bias=False))
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.dt_bias = nn.Parameter(torch.empty(keys))

    def forward(self, x: Tensor, state: LayerState, padding: Padding | None) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        read = self.read(x)
        q, k, v, conv = self.project(read, state, padding, unit=True)
        heads = (*q.shape[:3], -1)
        erase, write = self.gates
        b, w = _gate(read, self.b_proj, erase, self.key_dim), _gate(read, self.w_proj, write, self.value_dim)
        b, w = scaled(b, self.erase_range).reshape(heads), w.reshape(heads)
        g = self.log_decay(read).view(heads)
        o, matrix = run_operator(q, k, v.reshape(heads), g, b, w, state.matrix, padding)
        return self.gate_and_project(o, read), LayerState(matrix, conv)

    def read(self, x: Tensor, opens: Collection[nn.Module] = ()) -> Products:
        """What the layers that read x [B, T, D] make of it."""
        gates = zip((self.b_proj, self.w_proj), self.gates, strict=True)
        return super().read(x, [*opens, *(layer for layer, kind in gates if kind == "channel")])

    def log_decay(self, read: Products) -> Tensor:
        """Compute g [B, T, H * K] <= 0."""
        return softplus_decay(read(self.f_proj), self.A_log, self.dt_bias) if read.decay is None else read.decay

    def decay_of_step(self, read: Products) -> LowRankDecay | None:
        """What a step's kernel makes the decay of."""
        return low_rank_decay(read, self.f_proj, self.A_log, self.dt_bias)

    def initial_values(self) -> dict[str, Tensor]:
        """Rates a head, biases a channel."""
        return {"A_log": initial_A_log(self.num_heads), "dt_bias": initial_dt_bias(self.channels[0])}


def _gate(read: Products, layer: nn.Module, kind: str, channels: int) -> Tensor:
    """A gate in (0, 1), [B, T, C] a channel; where it is one number a head, that number in each of its channels."""
    if kind == "channel":
        return read.sigmoid(layer)
    x = read(layer)
    if kind == "mean":
        x = x.unflatten(-1, (-1, channels)).mean(-1)
    return torch.sigmoid(x.repeat_interleave(channels, dim=-1))
