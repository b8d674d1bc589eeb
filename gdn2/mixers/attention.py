"""Softmax attention with rotary embedding and grouped queries: over the whole text, or over a sliding window.

Letters: B batch, T tokens, H query heads, G key and value heads, d channels of a head, S slots of the state.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from gdn2.config import GDN2Config
from gdn2.mixers.base import Mixer
from gdn2.mixers.runs import attend_all, attend_window
from gdn2.mixers.slots import attend_newest, has_kernels, with_newest, with_tokens
from gdn2.modules import Linear, RMSNorm, ShortConvolution, convolve, turn_halves
from gdn2.ops import rotation
from gdn2.ops.fused import fuses
from gdn2.ops.overwriting import may_overwrite_slots
from gdn2.padding import Padding, Positions
from gdn2.products import Products
from gdn2.state import LayerState

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values."""


class Attention(Mixer):
    """y = o_proj(softmax(q k^T / sqrt(d)) v) over all tokens so far (arXiv:1706.03762).

    With `attention_scale` that is in the place of 1 / sqrt(d).
    With `attention_gate` it is o_proj(sigmoid(g_proj(x)) * softmax(...) v) (arXiv:2505.06708). With `attention_conv`
    q, k and v pass a short convolution and a SiLU as those of recurrent mixers do, before norms and rotation. Positions
    are those of the row's own text. State: 2 * G * d floats a token, and the convolution's last inputs.
    """

    uses_positions = True

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        D, bias = config.hidden_size, config.attention_bias
        self.num_heads: int = config.attention_heads  # type: ignore[assignment]
        self.kv_heads: int = config.attention_kv_heads  # type: ignore[assignment]
        self.head_dim: int = config.attention_head_dim  # type: ignore[assignment]
        self.theta, self.llama3, self.condense = config.rope_theta, config.rope_llama3, config.condense_ratio
        self.rotated = int(self.head_dim * config.rope_fraction)
        self.rotation = (self.theta, self.condense, self.rotated, *sorted((self.llama3 or {}).items()))
        self.q_proj = Linear(D, self.num_heads * self.head_dim, bias=bias)
        self.k_proj = Linear(D, self.kv_heads * self.head_dim, bias=bias)
        self.v_proj = Linear(D, self.kv_heads * self.head_dim, bias=bias)
        self.o_proj = Linear(self.num_heads * self.head_dim, D, bias=config.attention_output_bias)
        self.convolution, self.conv_size = config.attention_conv, config.conv_size
        if self.convolution:
            for name in "qkv":
                channels = getattr(self, f"{name}_proj").out_features
                setattr(self, f"{name}_conv1d", ShortConvolution(channels, config.conv_size))
        self.scale = config.attention_scale
        self.norm_whole = config.attention_norm_whole
        self.g_proj = Linear(D, self.num_heads * self.head_dim, bias=bias) if config.attention_gate else None
        self.q_norm, self.k_norm = (
            RMSNorm(size * self.head_dim, config.attention_eps, zero_centred=config.zero_centred_norms)
            if config.attention_qk_norm
            else None
            for size in ((self.num_heads, self.kv_heads) if self.norm_whole else (1, 1))
        )

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token: no slots."""
        keys, values = self.empty_slots(batch_size, 0)
        return LayerState(conv=self.empty_tail(batch_size), keys=keys, values=values)

    def forward(
        self, x: Tensor, state: LayerState, padding: Padding | None, positions: Positions
    ) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        assert positions.padded == (padding is not None)
        assert state.keys is not None
        assert state.values is not None
        read = self.read(x)
        heads, conv = self.heads(read, state.conv, padding)
        if self.steps_by_kernels(x, state.keys, positions):
            o = self.step(heads, state.keys, state.values, positions)
            return self.gate_and_project(o, read), replace(state, conv=conv)
        q, k, v = self.rotated_heads(heads, x.dtype, positions)
        keys, values = with_tokens(state.keys, k, positions), with_tokens(state.values, v, positions)
        if positions.is_step:
            o = attend_newest(q, keys, values, positions, self.scale)
        else:
            o = attend_all(q, k, v, (keys, values), positions, self.scale)
        return self.gate_and_project(o, read), LayerState(conv=conv, keys=keys, values=values)

    def read(self, x: Tensor) -> Products:
        """What the layers that read x [B, T, D] make of it."""
        opens = () if self.g_proj is None else (self.g_proj,)
        return Products(x, (self.q_proj, self.k_proj, self.v_proj, *opens), opens)

    def heads(self, read: Products, tail: Tensor | None, padding: Padding | None) -> tuple[Heads, Tensor | None]:
        """Make queries, keys and values of x [B, T, D], convolved and normalised as configured, but not rotated.

        Args:
            read: the products of x.
            tail: the convolution's last inputs; None without one.
            padding: the padding among the tokens, or None.

        Returns:
            (q [B, T, H, d], k and v [B, T, G, d]), and the convolution's new last inputs, None without one.
        """
        q, k, v = read(self.q_proj), read(self.k_proj), read(self.v_proj)
        if tail is not None:
            (q, k, v), tail = self._convolved((q, k, v), tail, padding)
        normed = self.q_norm is not None and self.k_norm is not None
        if normed and self.norm_whole:
            q, k = self.q_norm(q), self.k_norm(k)  # type: ignore[misc]
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in (q, k, v))
        if normed and not self.norm_whole:
            q, k = self.q_norm(q), self.k_norm(k)  # type: ignore[misc]
        return (q, k, v), tail

    def rotated_heads(self, heads: Heads, dtype: torch.dtype, positions: Positions) -> Heads:
        """Queries and keys of `heads` rotated, if there is a rotation, by angles in that dtype; and the values."""
        q, k, v = heads
        if self.theta is None:
            return q, k, v
        if rotation.turns(q) and rotation.turns(k):
            cos, sin = self.turns(positions, torch.float32)
            return rotation.turn(q, cos, sin), rotation.turn(k, cos, sin), v
        cos, sin = self.turns(positions, dtype)
        return self.rotate(q, cos, sin), self.rotate(k, cos, sin), v

    def empty_slots(self, batch_size: int, slots: int) -> tuple[Tensor, Tensor]:
        """Keys and values of so many slots [B, S, G, d] without a token."""
        shape = (batch_size, slots, self.kv_heads, self.head_dim)
        return self.k_proj.weight.new_zeros(shape), self.v_proj.weight.new_zeros(shape)

    def empty_tail(self, batch_size: int) -> Tensor | None:
        """The convolution's last inputs [B, W - 1, C] before the first token; None without one."""
        channels = (self.num_heads + 2 * self.kv_heads) * self.head_dim
        return self.k_proj.weight.new_zeros(batch_size, self.conv_size - 1, channels) if self.convolution else None

    def _convolved(self, parts: Heads, tail: Tensor, padding: Padding | None) -> tuple[Heads, Tensor]:
        """Queries, keys and values [B, T, C] through the convolution and its SiLU; and its new last inputs."""
        tails = tail.split([part.shape[-1] for part in parts], dim=-1)
        taps = [getattr(self, f"{name}_conv1d").weight for name in "qkv"]
        done = [convolve(x, each, None, last, padding) for x, each, last in zip(parts, taps, tails, strict=True)]
        (q, q_tail), (k, k_tail), (v, v_tail) = done
        return (q, k, v), torch.cat([q_tail, k_tail, v_tail], dim=-1)

    def steps_by_kernels(self, x: Tensor, keys: Tensor, positions: Positions) -> bool:
        """Whether a forward is a step in place for which there are kernels."""
        in_place = positions.is_step and may_overwrite_slots() and fuses(x, keys)
        return in_place and has_kernels(self.head_dim, self.num_heads // self.kv_heads)

    def step(self, heads: Heads, keys: Tensor, values: Tensor, positions: Positions) -> Tensor:
        """Put one token's `heads` into its slots [B, S, G, d], and attend to all of them: [B, 1, H, d].

        There must be room for it, as `gdn2.ops.overwriting` says.
        """
        from gdn2.ops.triton.attention import attend, rotate_and_store

        q, k, v = (part[:, 0] for part in heads)
        angles = None if self.theta is None else self.turns(positions, torch.float32)
        turns = None if angles is None else (angles[0][:, 0, 0], angles[1][:, 0, 0])
        q = rotate_and_store(q, k, v, keys, values, positions.before, turns=turns)
        return attend(q, keys, values, positions.before, self.scale)[:, None]

    def turns(self, positions: Positions, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles at the positions, [B, T, 1, n / 2] each; layers share them."""

        def make() -> tuple[Tensor, Tensor]:
            exact = torch.float64 if dtype == torch.float64 else torch.float32
            angle = positions.index[..., None, None] * self.frequencies(exact, positions.index.device)
            return angle.cos().to(dtype), angle.sin().to(dtype)

        made: tuple[Tensor, Tensor] = positions.once(("turns", self.rotation, dtype), make)
        return made

    def gate_and_project(self, o: Tensor, read: Products) -> Tensor:
        """Gate o [B, T, H, d] by x, if there is a gate, and bring it back to width D."""
        o = o.flatten(2)
        y: Tensor = self.o_proj(o if self.g_proj is None else o * read.sigmoid(self.g_proj))
        return y

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries or keys [B, T, H, d] with their first n channels turned."""
        if self.rotated == self.head_dim:
            return turn_halves(x, cos, sin)
        return torch.cat([turn_halves(x[..., : self.rotated], cos, sin), x[..., self.rotated :]], dim=-1)

    def frequencies(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Radians a token of each pair of the n channels that rotate [n / 2]."""
        assert self.theta is not None
        channels = torch.arange(0, self.rotated, 2, dtype=dtype, device=device)
        frequency = self.theta ** (-channels / self.rotated)
        if self.llama3 is None:
            return frequency / self.condense
        turns = frequency * self.llama3["original_max_position_embeddings"] / (2 * math.pi)
        low, high = self.llama3["low_freq_factor"], self.llama3["high_freq_factor"]
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return frequency * (kept + (1 - kept) / self.llama3["factor"]) / self.condense


class SlidingWindowAttention(Attention):
    """Attention to the last `window_size` tokens, the current one included. State: 2 * window_size * G * d floats."""

    def __init__(self, config: GDN2Config) -> None:
        super().__init__(config)
        self.window = config.window_size

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token: an empty ring."""
        keys, values = self.empty_slots(batch_size, self.window)
        return LayerState(conv=self.empty_tail(batch_size), window_keys=keys, window_values=values)

    def forward(
        self, x: Tensor, state: LayerState, padding: Padding | None, positions: Positions
    ) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        assert state.window_keys is not None
        assert state.window_values is not None
        read = self.read(x)
        heads, conv = self.heads(read, state.conv, padding)
        if self.steps_by_kernels(x, state.window_keys, positions):
            stepped = self.step(heads, state.window_keys, state.window_values, positions)
            return self.gate_and_project(stepped, read), replace(state, conv=conv)
        q, k, v = self.rotated_heads(heads, x.dtype, positions)
        # A step finds all that it sees in the ring; a longer run of tokens would overwrite what its first ones see.
        ring = (state.window_keys, state.window_values)
        o = None if positions.is_step else attend_window(q, k, v, ring, padding, positions, scale=self.scale)
        keys = with_newest(state.window_keys, k, positions)
        values = with_newest(state.window_values, v, positions)
        o = attend_newest(q, keys, values, positions, self.scale) if o is None else o
        return self.gate_and_project(o, read), LayerState(conv=conv, window_keys=keys, window_values=values)
