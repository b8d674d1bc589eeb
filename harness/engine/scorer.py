"""Log-probabilities where they are asked for: the head over scored positions only, in slices, its softmax in float32.

Letters: N predictions, U distinct positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM
from harness.engine.requests import ScoreRequest
from harness.engine.units import UnitNode
from harness.engine.watch import StateError

HEAD_ROWS = 512  # positions whose logits exist at a time


class Scorer:
    """Collects the predictions of a unit's requests while its nodes are read.

    #              CONTEXT      TARGET
    #   ids        0 1 2 3    | 4 5 6
    #   read       0 1 2 3      4 5        (the last token predicts nothing that is scored)
    #   scored at        3      4 5        (position i predicts token i + 1)
    """

    def __init__(self, model: GDN2ForCausalLM, requests: dict[int, ScoreRequest]) -> None:
        self.model, self.requests = model, requests
        # One tensor a request, filled in place: small ones that come and stay with each step would keep the process's
        # heap from shrinking between steps.
        dtype = _wide(model.dtype)
        self._logprobs = {i: torch.empty(len(request.target_ids), dtype=dtype) for i, request in requests.items()}
        self._greedy = dict.fromkeys(requests, True)

    def visit(self, nodes: Sequence[UnitNode], offset: int, lengths: Sequence[int], hidden: Tensor) -> None:
        """Score what is scored at tokens [offset, offset + lengths[i]) of nodes[i], whose outputs are hidden[i]."""
        spans: list[tuple[int, int, int]] = []  # (request, its predictions from, to), in the order of the flat lists
        places, targets = [], []
        width = hidden.shape[1]
        for row, (node, length) in enumerate(zip(nodes, lengths, strict=True)):
            start, end = node.start + offset, node.start + offset + length
            for index in node.scored:
                request = self.requests[index]
                first = len(request.context_ids) - 1
                low, high = max(first, start), min(end, first + len(request.target_ids))
                if low < high:
                    spans.append((index, low - first, high - first))
                    places.append(np.arange(row * width + low - start, row * width + high - start))
                    targets.append(request.target_ids[low - first : high - first])
        if not spans:
            return
        flat = np.concatenate(places)
        wanted = torch.tensor([token for part in targets for token in part])
        unique, inverse = np.unique(flat, return_inverse=True)
        logprobs, greedy = self._predict(hidden, torch.from_numpy(unique), torch.from_numpy(inverse), wanted)
        at = 0
        for index, begin, stop in spans:
            count = stop - begin
            part = logprobs[at : at + count]
            if not bool(torch.isfinite(part).all()):
                self._refuse(self.requests[index], part)
            self._logprobs[index][begin:stop] = part
            self._greedy[index] &= bool(greedy[at : at + count].all())
            at += count

    def result(self, index: int) -> tuple[float, bool]:
        """The sum of a request's log-probabilities (nats), and whether each target is the argmax.

        One sum over all targets, in the dtype of the logits: segments cannot show, and lm-eval's HFLM, which sums in
        the same way, is met to the last bit where the log-probabilities are.
        """
        return float(self._logprobs[index].sum()), self._greedy[index]

    def _predict(self, hidden: Tensor, unique: Tensor, inverse: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probabilities [N], is argmax [N]) on the CPU, of targets `wanted` [N] at positions unique[inverse]."""
        device = hidden.device
        chosen = hidden.flatten(0, 1).index_select(0, unique.to(device))  # [U, D]
        inverse, wanted = inverse.to(device), wanted.to(device)
        logprobs = torch.empty(len(wanted), dtype=_wide(hidden.dtype), device=device)
        greedy = torch.empty(len(wanted), dtype=torch.bool, device=device)
        for start in range(0, len(chosen), HEAD_ROWS):
            logits = self.model.lm_head(chosen[start : start + HEAD_ROWS])
            logits = logits.to(_wide(logits.dtype))
            here = ((inverse >= start) & (inverse < start + HEAD_ROWS)).nonzero()[:, 0]
            rows, tokens = inverse[here] - start, wanted[here]
            logprobs[here] = logits.log_softmax(-1)[rows, tokens]
            greedy[here] = logits.argmax(-1)[rows] == tokens
        return logprobs.cpu(), greedy.cpu()

    def _refuse(self, request: ScoreRequest, part: Tensor) -> None:
        bad = int((~torch.isfinite(part)).nonzero()[0])
        raise StateError(
            f"the model predicts {float(part[bad])} for a token of a request with {len(request.context_ids)} tokens "
            f"of context and {len(request.target_ids)} to score; a model that gives NaN has no score. Try another "
            "--dtype, or look at the checkpoint"
        )


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
