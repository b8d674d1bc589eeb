"""Softmax attention with rotary embedding and grouped queries: over the whole text, or over a sliding window.

Letters: B batch, T tokens, H query heads, G key and value heads, d channels of a head, S slots of the state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from gdn2.config import GDN2Config
from gdn2.mixers.base import Mixer
from gdn2.modules import RMSNorm, rotate_halves, wide
from gdn2.padding import Padding, Positions
from gdn2.state import LayerState

MASK_ELEMENTS = 1 << 24  # queries are taken in pieces, so that a mask has at most that many elements


class Attention(Mixer):
    """y = o_proj(softmax(q k^T / sqrt(d)) v) over all tokens so far (arXiv:1706.03762).

    With `attention_scale` that is in the place of 1 / sqrt(d).
    With `attention_gate` it is o_proj(sigmoid(g_proj(x)) * softmax(...) v) (arXiv:2505.06708). Positions are those of
    the row's own text. State: 2 * G * d floats a token.
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
        self.q_proj = nn.Linear(D, self.num_heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(D, self.kv_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(D, self.kv_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(self.num_heads * self.head_dim, D, bias=config.attention_output_bias)
        self.scale = config.attention_scale
        self.norm_whole = config.attention_norm_whole
        self.g_proj = nn.Linear(D, self.num_heads * self.head_dim, bias=bias) if config.attention_gate else None
        self.q_norm, self.k_norm = (
            RMSNorm(size * self.head_dim, config.attention_eps, zero_centred=config.zero_centred_norms)
            if config.attention_qk_norm
            else None
            for size in ((self.num_heads, self.kv_heads) if self.norm_whole else (1, 1))
        )

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token: no slots."""
        shape = (batch_size, 0, self.kv_heads, self.head_dim)
        return LayerState(keys=self.k_proj.weight.new_zeros(shape), values=self.v_proj.weight.new_zeros(shape))

    def forward(
        self, x: Tensor, state: LayerState, padding: Padding | None, positions: Positions
    ) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        assert positions.padded == (padding is not None)
        assert state.keys is not None
        assert state.values is not None
        q, k, v = self.project(x, positions)
        if positions.aligned:
            keys, values = torch.cat([state.keys, k], dim=1), torch.cat([state.values, v], dim=1)
        else:
            taken = newest_tokens(positions, positions.longest, state.keys.shape[1])
            keys, values = fill(state.keys, k, taken), fill(state.values, v, taken)
        if positions.aligned and not state.keys.shape[1]:
            o = _attend(q, keys, values, None, self.scale)
        else:
            slots = torch.arange(keys.shape[1], device=x.device)
            parts = []
            for piece in pieces(q.shape[0], q.shape[1], keys.shape[1]):
                visible = slots <= positions.index[:, piece, None]
                parts.append(_attend(q[:, piece], keys, values, visible, self.scale))
            o = torch.cat(parts, dim=1)
        return self.gate_and_project(o, x), LayerState(keys=keys, values=values)

    def project(self, x: Tensor, positions: Positions) -> tuple[Tensor, Tensor, Tensor]:
        """Make q [B, T, H, d] and k [B, T, G, d], normalised and rotated as configured, and v [B, T, G, d]."""
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        normed = self.q_norm is not None and self.k_norm is not None
        if normed and self.norm_whole:
            q, k = self.q_norm(q), self.k_norm(k)  # type: ignore[misc]
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in (q, k, v))
        if normed and not self.norm_whole:
            q, k = self.q_norm(q), self.k_norm(k)  # type: ignore[misc]
        if self.theta is None:
            return q, k, v
        angle = positions.index[..., None, None] * self.frequencies(self.theta, wide(x[:0]))
        return self.rotate(q, angle), self.rotate(k, angle), v

    def gate_and_project(self, o: Tensor, x: Tensor) -> Tensor:
        """Gate o [B, T, H, d] by x, if there is a gate, and bring it back to width D."""
        o = o.flatten(2)
        y: Tensor = self.o_proj(o if self.g_proj is None else o * torch.sigmoid(self.g_proj(x)))
        return y

    def rotate(self, x: Tensor, angle: Tensor) -> Tensor:
        """Queries or keys [B, T, H, d] with their first `rotated` channels turned by the angles [B, T, 1, n / 2]."""
        if self.rotated == self.head_dim:
            return rotate_halves(x, angle)
        return torch.cat([rotate_halves(x[..., : self.rotated], angle), x[..., self.rotated :]], dim=-1)

    def frequencies(self, theta: float, like: Tensor) -> Tensor:
        """Radians a token of each pair of the n channels that rotate [n / 2]."""
        channels = torch.arange(0, self.rotated, 2, dtype=like.dtype, device=like.device)
        frequency = theta ** (-channels / self.rotated)
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
        shape = (batch_size, self.window, self.kv_heads, self.head_dim)
        keys, values = self.k_proj.weight.new_zeros(shape), self.v_proj.weight.new_zeros(shape)
        return LayerState(window_keys=keys, window_values=values)

    def forward(
        self, x: Tensor, state: LayerState, padding: Padding | None, positions: Positions
    ) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        assert state.window_keys is not None
        assert state.window_values is not None
        q, k, v = self.project(x, positions)
        T, W = q.shape[1], self.window
        ring = _ring_positions(positions.before, W)
        new = positions.index if padding is None else positions.index.masked_fill(padding.is_pad[..., 0], -1)
        parts = []
        for start in range(0, T, W):
            stop, first = min(start + W, T), max(start - W + 1, 0)
            keys, values, at = k[:, first:stop], v[:, first:stop], new[:, first:stop]
            if start == 0:  # later pieces are a whole window behind what the ring holds
                keys = torch.cat([state.window_keys, keys], dim=1)
                values = torch.cat([state.window_values, values], dim=1)
                at = torch.cat([ring, at], dim=1)
            query = positions.index[:, start:stop, None]
            visible = (at[:, None] <= query) & (at[:, None] > query - W) & (at[:, None] >= 0)
            itself = torch.arange(stop - start, device=x.device)[:, None] + keys.shape[1] - (stop - start)
            visible = visible | (torch.arange(keys.shape[1], device=x.device) == itself)  # also padding sees something
            parts.append(_attend(q[:, start:stop], keys, values, visible, self.scale))
        taken = newest_tokens(positions, W, W, ring=True)
        state = LayerState(
            window_keys=fill(state.window_keys, k, taken), window_values=fill(state.window_values, v, taken)
        )
        return self.gate_and_project(torch.cat(parts, dim=1), x), state


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float | None) -> Tensor:
    """Attend with q [B, T, H, d] to k and v [B, S, G, d] where visible [B, T, S] (None: causal): [B, T, H, d]."""
    groups = q.shape[2] // k.shape[2]
    k, v = (part.repeat_interleave(groups, dim=2) if groups > 1 else part for part in (k, v))
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    mask = None if visible is None else visible[:, None]
    o = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=visible is None, scale=scale)
    return o.transpose(1, 2)


def pieces(B: int, T: int, S: int) -> list[slice]:
    """The queries of each piece, such that B masks of T x S have at most `MASK_ELEMENTS` together."""
    size = max(MASK_ELEMENTS // max(B * S, 1), 1)
    return [slice(start, start + size) for start in range(0, T, size)]


def _ring_positions(lengths: Tensor, window: int) -> Tensor:
    """The position of the token in each slot of rows with that many tokens, [B, W]; negative in empty slots."""
    newest = lengths[:, None] - 1
    return newest - (newest - torch.arange(window, device=lengths.device)).remainder(window)


def newest_tokens(positions: Positions, slots: int, old_slots: int, *, ring: bool = False) -> tuple[Tensor, Tensor]:
    """Find where the tokens of each slot come from after a forward.

    Returns:
        An index into the old slots followed by the new columns, int64 [B, slots], and whether the slot holds a token at
        all, bool [B, slots].
    """
    T, before, after = positions.index.shape[1], positions.before, positions.before + positions.count
    slot = torch.arange(slots, device=before.device)
    at = _ring_positions(after, slots) if ring else slot.expand(len(before), -1)
    source = torch.where(
        at < before[:, None],
        slot.clamp(max=max(old_slots - 1, 0)),
        old_slots + (positions.start - before)[:, None] + at,
    )
    return source.clamp(min=0, max=old_slots + T - 1), (at >= 0) & (at < after[:, None])


def fill(old: Tensor, new: Tensor, taken: tuple[Tensor, Tensor]) -> Tensor:
    """Slots [B, S, G, d] filled from the old ones and the new tokens [B, T, G, d]."""
    source, is_token = taken
    both = torch.cat([old, new], dim=1)
    filled = both.gather(1, source[..., None, None].expand(-1, -1, *both.shape[2:]))
    return filled.masked_fill(~is_token[..., None, None], 0.0)
