"""The training loop: steps, a log, and saves from which the same command goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gdn2.model import GDN2ForCausalLM
from gdn2.train.batches import BatchMaker
from gdn2.train.drawing import drawing
from gdn2.train.feed import Feed, StepBatch
from gdn2.train.objective import Objective
from gdn2.train.optimizers import Several, make_optimizers
from gdn2.train.place import Place
from gdn2.train.recipe import Recipe
from gdn2.train.saves import Progress, Sums, WorkFolder
from gdn2.train.sharing import apart, clip, divisor, shared

SAVE_SECONDS = 120.0  # what a killed run loses at most, beside the step it was in


def train(
    recipe: Recipe, model: GDN2ForCausalLM, batches: BatchMaker, work: WorkFolder, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train a model in place; what was saved before is taken up.

    The state is saved after the first step, every `save_every` steps, every two minutes, and at the end.

    Args:
        recipe: steps, rates and stages.
        model: the model, its weights fresh, on the device of the work folder's place.
        batches: gives the batch of each step.
        work: where the state is saved, and which of several processes this is.
        report: takes lines for a reader.

    Returns:
        The whole log, a mapping a line.

    Raises:
        RecipeError: the saved state is of another run or damaged, the state cannot be saved, or the gradient is not
            finite.
    """
    place, compute = work.place, recipe.compute
    model.model.gradient_checkpointing = compute.checkpointing
    weight, residual = recipe.optimizer.answer_weight, compute.residual
    objective = Objective(model, weight, precision=compute.precision, residual=residual)
    module = shared(objective, place, sharded=compute.sharded)
    optimizer = make_optimizers(model, recipe)
    progress = work.restore(model, optimizer)
    if progress.step:
        report(f"continuing at step {progress.step} of {recipe.total_steps}")
    model.train()
    saved, operations = time.monotonic(), operations_a_token(model)
    steps = range(progress.step, recipe.total_steps)
    with (
        drawing(batches, steps, compute.drawing_processes) as draw,
        Feed(draw, steps, place, compute.accumulation) as feed,
    ):
        for step in steps:
            started = time.monotonic()
            rate = learning_rate(step, recipe)
            batch = feed.take()
            losses = _step(recipe, module, optimizer, batch, place, (step, rate))
            progress.step += 1
            progress.sums.add(losses, batch.targets, batch.tokens, time.monotonic() - started)
            last = progress.step == recipe.total_steps
            if progress.step % recipe.log_every == 0 or last:
                entry = _entry(progress, batch.length, rate, place.peak_rate(compute.precision), operations)
                progress.log.append({**entry, "memory_gib": place.peak_memory()})
                progress.sums = Sums()
                report(_line(progress.log[-1], recipe.total_steps))
            late = place.first_says(time.monotonic() - saved > SAVE_SECONDS)
            if progress.step == 1 or progress.step % recipe.save_every == 0 or late or last:
                work.save(model, optimizer, progress)
                saved = time.monotonic()
    return progress.log


def _step(
    recipe: Recipe,
    module: nn.Module,
    optimizer: Several,
    batch: StepBatch,
    place: Place,
    step_and_rate: tuple[int, float],
) -> list[float]:
    """One step of the optimizer; returns the losses of text and of answers.

    It waits for the device before the optimizer, not behind it, so that the next step is asked for meanwhile.
    """
    step, rate = step_and_rate
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses = place.total(backward(module, batch))
    norm = clip(module, recipe.optimizer.clip_norm)
    if not math.isfinite(norm):
        raise recipe.error(f"optimizer.learning_rate: the gradient is not finite at step {step}; choose a lower rate")
    found: list[float] = losses.tolist()
    optimizer.step()
    optimizer.zero_grad()
    return found


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine.

    Args:
        step: counted from 0.
        recipe: its optimizer and its number of steps.

    Returns:
        The rate of that step.
    """
    spec, last = recipe.optimizer, max(recipe.total_steps - 1, 1)
    if spec.warmup_share is None:
        warm, progress = min(1.0, (step + 1) / max(spec.warmup_steps, 1)), step / last
    else:
        steps = round(spec.warmup_share * recipe.total_steps)
        warm, progress = min(1.0, (step + 1) / max(steps, 1)), max(step - steps, 0) / max(last - steps, 1)
    fall = spec.final_fraction + (1 - spec.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return spec.learning_rate * warm * fall


def backward(module: nn.Module, batch: StepBatch) -> Tensor:
    """Add the gradients of a step's loss to the parameters', those of all processes.

    Args:
        module: an `Objective`, or what calls it on several processes.
        batch: the rows of this process.

    Returns:
        The shares of both mean losses that these rows have, nats a token, float64 [2].
    """
    losses, divided = [], divisor(module, batch.processes)
    for number, part in enumerate(batch.parts):
        with apart(module, last=number == len(batch.parts) - 1):
            loss, means = module(part)
            torch.autograd.backward(loss if divided == 1 else loss * divided)
        losses.append(means)
    return torch.stack(losses).sum(0)


def operations_a_token(model: GDN2ForCausalLM) -> float:
    """Floating-point operations of a step, a token: 6 a number of each matrix that the token is multiplied with.

    Attention's products of tokens with each other and the recurrence are not counted, nor what is computed twice.
    """
    matrices = {name: p.numel() for name, p in model.named_parameters() if p.ndim == 2}
    if not model.config.tie_word_embeddings:
        del matrices["model.embed_tokens.weight"]  # it is looked up
    experts = sum(size for name, size in matrices.items() if ".experts." in name)
    share = (model.config.experts_per_token or 0) / (model.config.num_experts or 1)
    return 6.0 * (sum(matrices.values()) - experts * (1 - share))


def _entry(progress: Progress, length: int, rate: float, peak_rate: float | None, operations: float) -> dict[str, Any]:
    """A line of the log (its fields are LOG_FIELDS and MEASURED)."""
    sums = progress.sums
    speed = sums.tokens / max(sums.seconds, 1e-9)
    return {
        "step": progress.step,
        "length": length,
        "text_loss": round(sums.text / max(sums.text_steps, 1), 4),
        "answer_loss": round(sums.answer / max(sums.answer_steps, 1), 4),
        "learning_rate": float(f"{rate:.6g}"),
        "tokens_per_second": round(speed),
        "seconds": round(sums.seconds, 3),  # of ten short steps a plan of hours is made
        "utilisation": None if peak_rate is None else round(speed * operations / peak_rate, 4),
    }


def _line(entry: dict[str, Any], total: int) -> str:
    utilisation, memory = entry["utilisation"], entry["memory_gib"]
    more = "" if utilisation is None else f"  {utilisation:.1%} of peak"
    more += "" if memory is None else f"  {memory:.1f} GiB"
    return (
        f"step {entry['step']:>6}/{total}  length {entry['length']:>5}  text {entry['text_loss']:.3f}  "
        f"answer {entry['answer_loss']:.3f}  lr {entry['learning_rate']:.2e}  {entry['tokens_per_second']:,} tokens/s"
        + more
    )
