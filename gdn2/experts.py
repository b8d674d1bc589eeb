"""A mixture of experts in place of a SwiGLU: each token goes through the few that its router chooses.

Letters: N tokens, D width, E experts, k experts of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from gdn2.config import GDN2Config
from gdn2.modules import SwiGLU, wide


class Experts(nn.Module):
    """y = sum_e weight_e(x) expert_e(x) over a token's k experts, and a gated shared expert if there is one.

    The weights are the k largest scores, divided by their sum if `config.expert_weights_sum`, times
    `config.expert_weights_scale`. Scores are softmax(router(x)), or sigmoid(router(x)) with a bias that takes part in
    the choice only (arXiv:2412.19437); they are computed in at least float32. The tokens of an expert are taken
    together, so that each expert that is chosen at all does one product a matrix.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        D: int = config.hidden_size
        E: int = config.num_experts  # type: ignore[assignment]
        size: int = config.expert_size  # type: ignore[assignment]
        self.per_token: int = config.experts_per_token  # type: ignore[assignment]
        self.weights_sum = config.expert_weights_sum
        self.scale, self.scores = config.expert_weights_scale, config.router
        self.groups, self.groups_kept = config.router_groups, config.router_groups_kept
        self.router = nn.Linear(D, E, bias=False)
        self.choice_bias = nn.Parameter(torch.zeros(E)) if config.router == "sigmoid" else None
        self.experts = nn.ModuleList(SwiGLU(D, size) for _ in range(E))
        self.has_shared = config.shared_expert_size > 0
        if self.has_shared:
            self.shared_expert = SwiGLU(D, config.shared_expert_size)
            self.shared_gate = nn.Linear(D, 1, bias=False) if config.shared_expert_gate else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., D] to y of the same shape."""
        tokens = x.reshape(-1, x.shape[-1])
        chosen, weights = self.route(tokens)
        y = torch.zeros_like(tokens)
        # Sorted by expert: the rows of one follow each other.
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=len(self.experts)).tolist()
        first = 0
        for expert, count in zip(self.experts, counts, strict=True):
            if count:
                part = order[first : first + count]
                row = part // self.per_token
                y = y.index_add(0, row, expert(tokens[row]) * weights.flatten()[part, None])
                first += count
        if self.has_shared:
            shared = self.shared_expert(tokens)
            y = y + (shared if self.shared_gate is None else torch.sigmoid(self.shared_gate(tokens)) * shared)
        return y.view(x.shape)

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The experts of each token of [N, D], int64 [N, k], and their weights [N, k] in the dtype of the tokens."""
        if self.scores == "softmax":
            scores = torch.softmax(wide(self.router(tokens)), dim=-1)
        else:
            scores = torch.sigmoid(linear(wide(tokens), wide(self.router.weight)))
        chosen = self.open_to(scores).topk(self.per_token, dim=-1).indices
        weights = scores.gather(1, chosen)
        if self.weights_sum:
            weights = weights / weights.sum(-1, keepdim=True)
        return chosen, (weights * self.scale).to(tokens.dtype)

    def open_to(self, scores: Tensor) -> Tensor:
        """What experts are chosen by [N, E]: their scores with the bias, -inf outside the groups of a token."""
        if self.choice_bias is not None:
            scores = scores + self.choice_bias.to(scores.dtype)
        if self.groups == 1:
            return scores
        grouped: Tensor = scores.unflatten(1, (self.groups, -1))
        best = grouped.topk(2, dim=-1).values.sum(-1).topk(self.groups_kept, dim=-1).indices
        closed = torch.ones_like(grouped[..., 0], dtype=torch.bool).scatter(1, best, False)
        return grouped.masked_fill(closed[..., None], -torch.inf).flatten(1)
