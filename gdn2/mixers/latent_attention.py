"""Multi-head latent attention (arXiv:2405.04434) without positions, as Kimi Linear has it (arXiv:2510.26692).

Letters: B batch, T tokens, H heads, n channels of a head's own part of a key, r of the part that heads share, v of a
value, R of the latent, S slots of the state.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gdn2.config import GDN2Config
from gdn2.mixers.base import Mixer
from gdn2.mixers.runs import pieces
from gdn2.mixers.slots import seen_slots, with_tokens
from gdn2.modules import RMSNorm, wide
from gdn2.padding import Padding, Positions
from gdn2.state import LayerState


class LatentAttention(Mixer):
    """y = o_proj(softmax(q k^T / sqrt(n + r)) v), where k = [W_k c, s] and v = W_v c of a latent c a token.

    Only c, normalised, and s are remembered: R + r floats a token. W_k is applied to the query and W_v to the sum of
    latents, so keys and values are never written out.
    """

    uses_positions = True

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        D, bias, eps = config.hidden_size, config.attention_bias, config.attention_eps
        self.num_heads: int = config.attention_heads  # type: ignore[assignment]
        self.latent: int = config.latent_size  # type: ignore[assignment]
        self.shared_dim: int = config.shared_key_dim  # type: ignore[assignment]
        self.own_dim: int = config.latent_key_dim  # type: ignore[assignment]
        self.value_dim: int = config.latent_value_dim  # type: ignore[assignment]
        H, rank = self.num_heads, config.query_rank
        self.q_down = None if rank is None else nn.Linear(D, rank, bias=bias)
        self.q_norm = None if rank is None else RMSNorm(rank, eps)
        self.q_proj = nn.Linear(D if rank is None else rank, H * (self.own_dim + self.shared_dim), bias=False)
        self.kv_down = nn.Linear(D, self.latent + self.shared_dim, bias=bias)
        self.kv_norm = RMSNorm(self.latent, eps)
        self.kv_up = nn.Linear(self.latent, H * (self.own_dim + self.value_dim), bias=False)
        self.o_proj = nn.Linear(H * self.value_dim, D, bias=config.attention_output_bias)

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token: no slots."""
        return LayerState(latents=self.kv_down.weight.new_zeros(batch_size, 0, self.latent + self.shared_dim))

    def forward(
        self, x: Tensor, state: LayerState, padding: Padding | None, positions: Positions
    ) -> tuple[Tensor, LayerState]:
        """Map x [B, T, D] to (y [B, T, D], the state after each row's last real token)."""
        assert positions.padded == (padding is not None)
        assert state.latents is not None
        latent, shared = self.kv_down(x).split([self.latent, self.shared_dim], dim=-1)
        new = torch.cat([self.kv_norm(latent), shared], dim=-1)
        latents = with_tokens(state.latents, new, positions)
        S = seen_slots(latents.shape[1], x, positions)
        o = self.attend(self.queries(x), latents[:, :S], positions)
        return self.o_proj(o.flatten(2)), LayerState(latents=latents)

    def queries(self, x: Tensor) -> Tensor:
        """Queries as the latents see them [B, T, H, R + r], divided by sqrt(n + r)."""
        if self.q_down is not None and self.q_norm is not None:
            x = self.q_norm(self.q_down(x))
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1))
        own, shared = q.split([self.own_dim, self.shared_dim], dim=-1)
        to_keys = self.up()[:, : self.own_dim]
        seen: Tensor = torch.cat([torch.einsum("bthn,hnr->bthr", own, to_keys), shared], dim=-1)
        return seen / math.sqrt(q.shape[-1])

    def attend(self, q: Tensor, latents: Tensor, positions: Positions) -> Tensor:
        """Attend with q [B, T, H, R + r] to latents [B, S, R + r] up to each token's own: values [B, T, H, v]."""
        B, T, H, _ = q.shape
        slots = torch.arange(latents.shape[1], device=q.device)
        to_values = self.up()[:, self.own_dim :]
        parts = []
        for piece in pieces(B * H, T, latents.shape[1]):
            hidden = slots > positions.index[:, piece, None]
            scores = wide(torch.einsum("bthc,bsc->bths", q[:, piece], latents))
            weights = torch.softmax(scores.masked_fill(hidden[:, :, None], -torch.inf), dim=-1).to(q.dtype)
            mixed = torch.einsum("bths,bsr->bthr", weights, latents[..., : self.latent])
            parts.append(torch.einsum("bthr,hvr->bthv", mixed, to_values))
        return torch.cat(parts, dim=1)

    def up(self) -> Tensor:
        """The matrices that make keys and values of a latent, [H, n + v, R]."""
        weight: Tensor = self.kv_up.weight.unflatten(0, (self.num_heads, -1))
        return weight
