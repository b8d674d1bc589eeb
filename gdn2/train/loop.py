"""The training loop: steps, a log, and saves from which the same command goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gdn2.model import GDN2ForCausalLM
from gdn2.train.batches import Batch, BatchMaker
from gdn2.train.recipe import OptimizerSpec, Recipe
from gdn2.train.saves import Progress, Sums, WorkFolder

LOSS_ROWS = 1024  # positions whose logits exist at a time: they stay in the processor's cache
SAVE_SECONDS = 120.0  # what a killed run loses at most, beside the step it was in


def train(
    recipe: Recipe, model: GDN2ForCausalLM, batches: BatchMaker, work: WorkFolder, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train a model in place; what was saved before is taken up.

    The state is saved after the first step, every `save_every` steps, every two minutes, and at the end.

    Args:
        recipe: steps, rates and stages.
        model: the model, its weights fresh.
        batches: gives the batch of each step.
        work: where the state is saved.
        report: takes lines for a reader.

    Returns:
        The whole log, a mapping a line.

    Raises:
        RecipeError: the saved state is of another run or damaged, the state cannot be saved, or the gradient is not
            finite.
    """
    optimizer = _make_optimizer(model, recipe.optimizer)
    progress = work.restore(model, optimizer)
    if progress.step:
        report(f"continuing at step {progress.step} of {recipe.total_steps}")
    model.train()
    saved = time.monotonic()
    while progress.step < recipe.total_steps:
        started = time.monotonic()
        rate = learning_rate(progress.step, recipe)
        batch = batches.batch(progress.step)
        text_loss, answer_loss = _step(recipe, model, optimizer, batch, (progress.step, rate))
        progress.step += 1
        sums = progress.sums
        sums.text += text_loss
        sums.answer += answer_loss
        sums.steps += 1
        sums.tokens += batch.input_ids.numel()
        sums.seconds += time.monotonic() - started
        last = progress.step == recipe.total_steps
        if progress.step % recipe.log_every == 0 or last:
            entry = _entry(progress, batch.input_ids.shape[1], rate)
            progress.log.append(entry)
            progress.sums = Sums()
            report(_line(entry, recipe.total_steps))
        late = time.monotonic() - saved > SAVE_SECONDS
        if progress.step == 1 or progress.step % recipe.save_every == 0 or late or last:
            work.save(model, optimizer, progress)
            saved = time.monotonic()
    return progress.log


def _step(
    recipe: Recipe,
    model: GDN2ForCausalLM,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step_and_rate: tuple[int, float],
) -> tuple[float, float]:
    """One step of the optimizer; returns the losses of text and of answers."""
    step, rate = step_and_rate
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses = backward(model, batch, recipe.optimizer.answer_weight)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
    if not math.isfinite(float(norm)):
        raise recipe.error(f"optimizer.learning_rate: the gradient is not finite at step {step}; choose a lower rate")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return losses


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine.

    Args:
        step: counted from 0.
        recipe: its optimizer and its number of steps.

    Returns:
        The rate of that step.
    """
    spec = recipe.optimizer
    warm = min(1.0, (step + 1) / max(spec.warmup_steps, 1))
    progress = step / max(recipe.total_steps - 1, 1)
    fall = spec.final_fraction + (1 - spec.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return spec.learning_rate * warm * fall


def backward(model: GDN2ForCausalLM, batch: Batch, answer_weight: float) -> tuple[float, float]:
    """Add the gradients of mean text loss + answer_weight * mean answer loss to the parameters'.

    Logits are made only where a target counts, and for LOSS_ROWS positions at a time.

    Args:
        model: the model.
        batch: rows and targets.
        answer_weight: weight of the answers.

    Returns:
        Both losses, nats a token; 0 where no target counts.
    """
    hidden = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    gradient = torch.zeros_like(hidden)
    losses = []
    for chosen, weight in ((batch.is_text, 1.0), (batch.is_answer, answer_weight)):
        total, part = _loss_and_gradient(model, hidden.detach()[chosen], batch.targets[chosen], weight)
        if part is not None:
            gradient[chosen] = part
        losses.append(total)
    hidden.backward(gradient)
    return losses[0], losses[1]


def _loss_and_gradient(
    model: GDN2ForCausalLM, hidden: Tensor, targets: Tensor, weight: float
) -> tuple[float, Tensor | None]:
    count = len(targets)
    if count == 0:
        return 0.0, None
    total, gradients = 0.0, []
    for rows, wanted in zip(torch.split(hidden, LOSS_ROWS), torch.split(targets, LOSS_ROWS), strict=True):
        rows = rows.requires_grad_()
        loss = cross_entropy(model.lm_head(rows), wanted, reduction="sum") / count
        torch.autograd.backward(loss * weight)
        assert rows.grad is not None
        gradients.append(rows.grad)
        total += loss.item()
    return total, torch.cat(gradients)


def _make_optimizer(model: GDN2ForCausalLM, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Weight decay for matrices; none for norms, biases, decay parameters and the embedding."""
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    ids = {id(p) for p in decayed}
    rest = [p for p in model.parameters() if id(p) not in ids]
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, spec.beta2), eps=1e-8, fused=True)


def _entry(progress: Progress, length: int, rate: float) -> dict[str, Any]:
    """A line of the log (its fields are LOG_FIELDS)."""
    sums = progress.sums
    return {
        "step": progress.step,
        "length": length,
        "text_loss": round(sums.text / sums.steps, 4),
        "answer_loss": round(sums.answer / sums.steps, 4),
        "learning_rate": round(rate, 7),
        "tokens_per_second": round(sums.tokens / max(sums.seconds, 1e-9)),
        "seconds": round(sums.seconds, 1),
    }


def _line(entry: dict[str, Any], total: int) -> str:
    return (
        f"step {entry['step']:>6}/{total}  length {entry['length']:>5}  text {entry['text_loss']:.3f}  "
        f"answer {entry['answer_loss']:.3f}  lr {entry['learning_rate']:.2e}  {entry['tokens_per_second']:,} tokens/s"
    )
