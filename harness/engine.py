"""Runs requests on a model: batches, segments, states. Knows token ids only, nothing of text, tasks or lm-eval.

A batch is a rectangle whose rows are filled up with steps that change nothing; it is read in segments that carry the
state, so memory does not grow with the context; logits exist only at positions that are scored.

Letters: B rows, T tokens of a segment, D width, N scored positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM, RecurrentState
from harness.progress import ProgressSink
from harness.requests import GenerateRequest, ScoreRequest, batches

SEGMENT = 1024  # tokens of a row that are read at a time
HEAD_ROWS = 512  # positions whose logits exist at a time


class Engine:
    """Scores and generates with `model`, `batch_size` rows at a time; results do not depend on it.

    `progress` hears of finished requests and tokens; a method's `done(index, result)` of each finished request.
    """

    def __init__(self, model: GDN2ForCausalLM, batch_size: int, progress: ProgressSink) -> None:
        self.model, self.batch_size, self.progress = model, batch_size, progress

    @torch.inference_mode()
    def score(
        self, requests: Sequence[ScoreRequest], kind: str, done: Callable[[int, tuple[float, bool]], None]
    ) -> list[tuple[float, bool]]:
        """For each request the sum of its targets' log-probabilities (nats), and whether each is the argmax."""
        #              CONTEXT      TARGET
        #   ids        0 1 2 3    | 4 5 6
        #   input      0 1 2 3      4 5        (the last token predicts nothing that is scored)
        #   scored at        3      4 5        (position i predicts token i + 1)
        inputs = [request.context_ids + request.target_ids[:-1] for request in requests]
        firsts = [len(request.context_ids) - 1 for request in requests]
        results: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        self.progress.begin(kind, len(requests), sum(len(ids) for ids in inputs))
        for batch in batches([len(ids) for ids in inputs], self.batch_size):
            logprobs: dict[int, list[Tensor]] = {i: [] for i in batch}
            greedy = dict.fromkeys(batch, True)
            for start, hidden, _ in self._read([inputs[i] for i in batch]):
                for row, i in enumerate(batch):
                    first, last = max(firsts[i], start), min(len(inputs[i]), start + hidden.shape[1])
                    if first < last:
                        targets = requests[i].target_ids[first - firsts[i] : last - firsts[i]]
                        part, is_greedy = self._score_row(hidden[row, first - start : last - start], targets)
                        logprobs[i].append(part)
                        greedy[i] &= is_greedy
            for i in batch:
                # One sum over all targets, in the dtype of the logits: segments cannot show, and lm-eval's HFLM,
                # which sums in the same way, is met to the last bit where the log-probabilities are.
                results[i] = (float(torch.cat(logprobs[i]).sum()), greedy[i])
                done(i, results[i])
            self.progress.advance(len(batch), sum(len(inputs[i]) for i in batch))
        self.progress.end()
        return results

    @torch.inference_mode()
    def generate(self, requests: Sequence[GenerateRequest], done: Callable[[int, list[int]], None]) -> list[list[int]]:
        """For each request the ids of its greedy continuation, the one that ended it included."""
        generated: list[list[int]] = [[] for _ in requests]
        self.progress.begin("generating", len(requests), sum(len(r.context_ids) + r.max_tokens for r in requests))
        for batch in batches([len(request.context_ids) for request in requests], self.batch_size):
            hidden, state = self._read_to_end([requests[i].context_ids for i in batch])
            self.progress.advance(0, sum(len(requests[i].context_ids) for i in batch))
            rows = batch  # of these requests, the ones still going; a finished one leaves the batch at once
            while True:
                tokens = self.model.lm_head(hidden).argmax(-1)  # [rows]
                going = []
                for position, (i, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
                    generated[i].append(token)
                    if self._is_over(requests[i], generated[i]):
                        self.progress.advance(1, 1, saved=requests[i].max_tokens - len(generated[i]))
                        done(i, generated[i])
                    else:
                        going.append(position)
                if not going:
                    break
                self.progress.advance(0, len(going))
                if len(going) < len(rows):
                    rows, tokens, state = [rows[p] for p in going], tokens[going], state.select(going)
                outputs = self.model.model(input_ids=tokens[:, None], past_key_values=state, use_cache=True)
                hidden, state = outputs.last_hidden_state[:, -1], outputs.past_key_values
        self.progress.end()
        return generated

    def _is_over(self, request: GenerateRequest, ids: list[int]) -> bool:
        return len(ids) >= request.max_tokens or ids[-1] in request.end_ids or request.is_finished(ids)

    def _score_row(self, hidden: Tensor, target_ids: list[int]) -> tuple[Tensor, bool]:
        """Log-probabilities [N] of the N targets that hidden [N, D] predicts, and whether each is the argmax."""
        targets = torch.tensor(target_ids, device=hidden.device)
        logprobs, is_greedy = [], True
        for part, wanted in zip(hidden.split(HEAD_ROWS), targets.split(HEAD_ROWS), strict=True):
            logits = self.model.lm_head(part)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            logprobs.append(logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0])
            is_greedy &= bool((logits.argmax(-1) == wanted).all())
        return torch.cat(logprobs), is_greedy

    def _read(self, inputs: Sequence[list[int]]) -> Iterator[tuple[int, Tensor, RecurrentState]]:
        """(first position, hidden states [B, T, D], state after it) of each segment of a batch; where a row has
        ended, its hidden states mean nothing and its state stays."""
        state = self.model.model.empty_state(len(inputs))
        for start in range(0, max(len(ids) for ids in inputs), SEGMENT):
            ids, mask = self._rectangle([row[start : start + SEGMENT] for row in inputs])
            outputs: Any = self.model.model(input_ids=ids, attention_mask=mask, past_key_values=state, use_cache=True)
            state = outputs.past_key_values
            yield start, outputs.last_hidden_state, state

    def _read_to_end(self, inputs: Sequence[list[int]]) -> tuple[Tensor, RecurrentState]:
        """The hidden state [B, D] at each row's last token, and the recurrent state after it."""
        last: list[Tensor | None] = [None] * len(inputs)
        for start, hidden, state in self._read(inputs):  # noqa: B007 (the last one is returned)
            for row, ids in enumerate(inputs):
                if start < len(ids) <= start + hidden.shape[1]:
                    last[row] = hidden[row, len(ids) - 1 - start]
        return torch.stack([hidden for hidden in last if hidden is not None]), state

    def _rectangle(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and mask [B, T], filled on the right."""
        width = max(len(row) for row in rows)
        device = self.model.device
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return ids, torch.arange(width, device=device) < lengths[:, None]
