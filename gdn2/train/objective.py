"""What training minimises, as one module with one backward pass; logits exist for a slice of positions at a time.

Letters: B rows, T tokens, D width, N positions with a target, V vocabulary.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from gdn2.model import GDN2ForCausalLM
from gdn2.ops.fused import fuses
from gdn2.ops.onednn import wide_linear
from gdn2.ops.orders import once
from gdn2.state import RecurrentState

LOSS_ROWS = 1024  # positions whose logits exist at a time on a CPU: they stay in the processor's cache
GPU_LOSS_ROWS = 2048  # on a GPU: its products are large enough, and its peak of memory is when logits are there
GPU_LOGITS = 1 << 26  # of a small vocabulary more rows: their logits at a time, so that there are fewer kernels

PRECISIONS = ("float32", "bfloat16")


class Term(NamedTuple):
    """Targets of one kind, whose mean loss counts with one weight.

    Attributes:
        places: which of the B * T positions have such a target, int64 [N].
        targets: the tokens that follow there, int64 [N].
        total: how many such targets the whole step has, of which these may be a part.
    """

    places: Tensor
    targets: Tensor
    total: int


class MicroBatch(NamedTuple):
    """Rows that go through the model together.

    Attributes:
        input_ids: int64 [B, T].
        text: the targets that count as text.
        answer: those that count as answers.
    """

    input_ids: Tensor
    text: Term
    answer: Term

    def to(self, device: torch.device) -> MicroBatch:
        """The same on a device; from pinned memory without waiting for it."""

        def move(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=True)

        terms = (Term(move(term.places), move(term.targets), term.total) for term in (self.text, self.answer))
        return MicroBatch(move(self.input_ids), *terms)


class Objective(nn.Module):
    """Mean text loss + answer_weight * mean answer loss of a model, the means over a whole step's targets.

    `forward(batch)` returns the share of it that these rows have, with gradients, and their shares of both means,
    float64 [2], without.

    Args:
        model: the model.
        answer_weight: weight of the answers.
        precision: "float32"; or "bfloat16", in which activations and products then are, while weights, the recurrence,
            norms and losses stay in float32.
        residual: of what is between the blocks: "float32", or "bfloat16" where that is the precision.
        loss_rows: positions whose logits exist at a time; 0: as the device has it.
    """

    def __init__(
        self, model: GDN2ForCausalLM, answer_weight: float = 1.0, *, precision: str = "float32",
        residual: str = "float32", loss_rows: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.model, self.answer_weight, self.loss_rows = model, answer_weight, loss_rows
        self.halved, self.halves_residual = precision == "bfloat16", residual == "bfloat16"
        self._empty: RecurrentState | None = None

    def keep_empty_state(self) -> None:
        """Make the state before a text's first token now, while weights, which say its dtypes, are complete."""
        self._empty = self.model.model.empty_state(1)

    def forward(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Read the rows and compare."""
        kind = batch.input_ids.device.type
        autocast = torch.autocast(kind, torch.bfloat16, cache_enabled=False)
        on_gpu = max(GPU_LOSS_ROWS, GPU_LOGITS // self.model.config.vocab_size)
        rows = self.loss_rows or (LOSS_ROWS if kind == "cpu" else on_gpu)
        with autocast if self.halved else contextlib.nullcontext():
            empty = None if self._empty is None else RecurrentState.gather([(self._empty, 0)] * len(batch.input_ids))
            x = self.model.model.embed_tokens(batch.input_ids)
            x = x.bfloat16() if self.halves_residual else x  # what is added to it is in bfloat16 as it is
            outputs = self.model.model(inputs_embeds=x, past_key_values=empty, use_cache=False)
            hidden = outputs.last_hidden_state
            terms = ((batch.text, 1.0), (batch.answer, self.answer_weight))
            scale = self.model.config.logits_scale
            loss, means = _SlicedLoss.apply(hidden, self.model.lm_head.weight, terms, scale, rows)  # type: ignore[no-untyped-call]
        return loss, means


def _slice(
    inputs: Tensor, head: Tensor, targets: Tensor, scale: float, factor: float, total: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What some positions have of a mean of `total` losses, and the gradients of their inputs and of the head.

    Gradients are of that share times `factor`.
    """
    inputs = inputs.requires_grad_()
    with torch.enable_grad():
        logits = wide_linear(inputs, head)
        logits = logits if scale == 1 else logits * scale
        loss = cross_entropy(logits.float(), targets, reduction="sum") / total
        d_inputs, d_head = torch.autograd.grad(loss * factor, (inputs, head))
    return loss, d_inputs, d_head


def _slice_by_kernel(
    inputs: Tensor, head: Tensor, targets: Tensor, scale: float, factor: float, total: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same on a GPU, where gradients take the logits' place."""
    from gdn2.ops.triton.entropy import cross_entropy_

    head = head.detach()
    logits = linear(inputs, head)
    losses = cross_entropy_(logits, targets, scale, factor / total)
    return losses.sum() / total, (logits @ head).to(inputs.dtype), (logits.t() @ inputs).to(head.dtype)


class _SlicedLoss(torch.autograd.Function):
    """The head and the cross-entropy: the forward computes the gradients, the backward hands them out."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, terms: tuple[tuple[Term, float], ...], scale: float, rows: int
    ) -> tuple[Tensor, Tensor]:
        flat = hidden.detach().flatten(0, 1)
        head = weight.detach().to(flat.dtype).requires_grad_()
        means = torch.zeros(len(terms), dtype=torch.float64, device=hidden.device)
        d_hidden, d_head = torch.zeros_like(flat), None
        for number, (term, factor) in enumerate(terms):
            for places, targets in zip(term.places.split(rows), term.targets.split(rows), strict=True):
                if not len(targets):
                    continue
                step = _slice_by_kernel if fuses(flat, head.detach()) else _slice
                loss, d_inputs, d_slice = step(flat[places], head, targets, scale, factor, term.total)
                d_hidden.index_copy_(0, places, d_inputs)
                d_head = d_slice.to(weight.dtype) if d_head is None else d_head.add_(d_slice)
                means[number] += loss.detach()
        if d_head is None and any(term.total for term, _ in terms):  # other parts of the step have targets
            d_head = torch.zeros_like(weight)
        ctx.found = d_hidden.view_as(hidden), d_head
        ctx.mark_non_differentiable(means)
        loss = sum((mean * factor for mean, (_, factor) in zip(means, terms, strict=True)), means.new_zeros(()))
        return loss.float(), means

    @staticmethod
    @once
    def backward(ctx: Any, d_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_head = ctx.found
        del ctx.found
        d_hidden.mul_(d_loss)
        return d_hidden, None if d_head is None else d_head.mul_(d_loss), None, None, None
