"""A mixture of experts in place of a SwiGLU: each token goes through the few that its router chooses.

Letters: N tokens, D width, E experts, k experts of a token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gdn2.config import GDN2Config
from gdn2.modules import SwiGLU, wide


class Experts(nn.Module):
    """y = sum_e weight_e(x) expert_e(x) over a token's k experts, and a gated shared expert if there is one.

    The weights are the k largest of softmax(router(x)), computed in at least float32, divided by their sum if
    `config.expert_weights_sum`. The tokens of an expert are taken together, so that each expert that is chosen at all
    does one product a matrix.
    """

    def __init__(self, config: GDN2Config) -> None:
        super().__init__()
        D: int = config.hidden_size
        E: int = config.num_experts  # type: ignore[assignment]
        size: int = config.expert_size  # type: ignore[assignment]
        self.per_token: int = config.experts_per_token  # type: ignore[assignment]
        self.weights_sum = config.expert_weights_sum
        self.router = nn.Linear(D, E, bias=False)
        self.experts = nn.ModuleList(SwiGLU(D, size) for _ in range(E))
        self.has_shared = config.shared_expert_size > 0
        if self.has_shared:
            self.shared_expert = SwiGLU(D, config.shared_expert_size)
            self.shared_gate = nn.Linear(D, 1, bias=False)

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
            y = y + torch.sigmoid(self.shared_gate(tokens)) * self.shared_expert(tokens)
        return y.view(x.shape)

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The experts of each token of [N, D], int64 [N, k], and their weights [N, k] in the dtype of the tokens."""
        weights, chosen = torch.softmax(wide(self.router(tokens)), dim=-1).topk(self.per_token, dim=-1)
        if self.weights_sum:
            weights = weights / weights.sum(-1, keepdim=True)
        return chosen, weights.to(tokens.dtype)
