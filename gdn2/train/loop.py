"""The training loop: steps, a log, and checkpoints from which the same command goes on."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gdn2 import GDN2ForCausalLM
from gdn2.train.batches import Batch, BatchMaker
from gdn2.train.recipe import OptimizerSpec, Recipe, RecipeError

LOSS_ROWS = 1024  # positions whose logits exist at a time: they stay in the processor's cache


def train(
    recipe: Recipe, model: GDN2ForCausalLM, batches: BatchMaker, folder: Path, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train `model` in place by the recipe; `folder` holds state.pt and log.jsonl. Returns the whole log.

    Raises:
        RecipeError: `folder` holds a run of another recipe.
    """
    optimizer = _make_optimizer(model, recipe.optimizer)
    step, log = _resume(folder, recipe, model, optimizer)
    if step:
        report(f"continuing at step {step} of {recipe.total_steps}")
    model.train()
    sums = {"text": 0.0, "answer": 0.0, "steps": 0, "tokens": 0}
    started = time.monotonic()
    while step < recipe.total_steps:
        rate = learning_rate(step, recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = batches.batch(step)
        text_loss, answer_loss = backward(model, batch, recipe.optimizer.answer_weight)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
        if not math.isfinite(float(norm)):
            raise RuntimeError(f"the gradient is not finite at step {step}; lower the learning rate of the recipe")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        sums["text"] += text_loss
        sums["answer"] += answer_loss
        sums["steps"] += 1
        sums["tokens"] += batch.input_ids.numel()
        if step % recipe.log_every == 0 or step == recipe.total_steps:
            seconds = time.monotonic() - started
            entry = {
                "step": step,
                "length": batch.input_ids.shape[1],
                "text_loss": round(sums["text"] / sums["steps"], 4),
                "answer_loss": round(sums["answer"] / sums["steps"], 4),
                "learning_rate": round(rate, 7),
                "tokens_per_second": round(sums["tokens"] / seconds),
                "seconds": round(seconds, 1),
            }
            log.append(entry)
            report(_line(entry, recipe.total_steps))
            sums = dict.fromkeys(sums, 0)
            started = time.monotonic()
        if step % recipe.save_every == 0 or step == recipe.total_steps:
            _save(folder, recipe, model, optimizer, step, log)
    return log


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine."""
    spec = recipe.optimizer
    warm = min(1.0, (step + 1) / max(spec.warmup_steps, 1))
    progress = step / max(recipe.total_steps - 1, 1)
    fall = spec.final_fraction + (1 - spec.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    return spec.learning_rate * warm * fall


def backward(model: GDN2ForCausalLM, batch: Batch, answer_weight: float) -> tuple[float, float]:
    """Gradients of mean text loss + answer_weight * mean answer loss; returns both losses (nats a token).

    Logits are made only where a target counts, and for LOSS_ROWS positions at a time.
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
    for rows, wanted in zip(hidden.split(LOSS_ROWS), targets.split(LOSS_ROWS), strict=True):
        rows = rows.requires_grad_()
        loss = cross_entropy(model.lm_head(rows), wanted, reduction="sum") / count
        (loss * weight).backward()
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


def _resume(
    folder: Path, recipe: Recipe, model: GDN2ForCausalLM, optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, Any]]]:
    path = folder / "state.pt"
    if not path.exists():
        return 0, []
    saved = torch.load(path, weights_only=True)
    if saved["recipe"] != recipe.fingerprint:
        raise RecipeError(f"{path} belongs to another recipe; choose another folder with --work")
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["step"], saved["log"]


def _save(
    folder: Path,
    recipe: Recipe,
    model: GDN2ForCausalLM,
    optimizer: torch.optim.Optimizer,
    step: int,
    log: list[dict[str, Any]],
) -> None:
    state = {
        "recipe": recipe.fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "log": log,
    }
    temporary = folder / "state.pt.tmp"
    torch.save(state, temporary)
    os.replace(temporary, folder / "state.pt")
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")


def _line(entry: dict[str, Any], total: int) -> str:
    return (
        f"step {entry['step']:>6}/{total}  length {entry['length']:>5}  text {entry['text_loss']:.3f}  "
        f"answer {entry['answer_loss']:.3f}  lr {entry['learning_rate']:.2e}  {entry['tokens_per_second']:,} tokens/s"
    )
