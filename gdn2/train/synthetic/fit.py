"""Runs trained one after the other on one device, each with a file of results when it is done."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from basis.files import write_atomically
from gdn2.matching import state_floats
from gdn2.train.synthetic.data import RowBatch, draw
from gdn2.train.synthetic.spec import Run, Task
from gdn2.train.synthetic.trainee import Trainee, fast_products

FLAT = 0.02
"""The fall of the validation loss over the last fifth of a training, as a share of itself or in nats, below which the
training has converged."""
Report = Callable[[dict[str, Any]], None]


def fit(runs: Iterable[Run], folder: Path, device: str, report: Report) -> None:
    """Train runs and write `IDENTITY.json` for each when it is done.

    A run that fails has a file as well, which says why; the others go on.

    Args:
        runs: what to do, one after the other; the next is asked for when one is done.
        folder: of the results.
        device: as PyTorch names it.
        report: hears how each run goes.
    """
    place = torch.device(device)
    rows: dict[tuple[Task, ...], list[RowBatch]] = {}
    with fast_products():
        for run in runs:
            try:
                if run.train not in rows:
                    rows = {run.train: [RowBatch.of(draw(task, "train", i), place) for i, task in enumerate(run.train)]}
                result = _train(run, rows[run.train], report)
            except (RuntimeError, ValueError, FloatingPointError) as error:
                words = " ".join(str(error).split())[:300] or type(error).__name__
                result = {"identity": run.identity, "run": run.to_dict(), "failed": words}
            write_result(folder, result)
            report({"run": run.identity, **{name: result[name] for name in ("failed", "seconds") if name in result}})


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write the file of a run, whole or not at all."""
    write_atomically(folder / f"{result['identity']}.json", json.dumps(result, separators=(",", ":")) + "\n")


def _train(run: Run, rows: list[RowBatch], report: Report) -> dict[str, Any]:
    started, every = time.monotonic(), run.training.validate_every
    trainee = Trainee(run, rows)
    validation = [
        RowBatch.of(draw(task, "validation", i, run.training.validation_rows), trainee.device)
        for i, task in enumerate(run.train)
    ]
    curve: list[dict[str, Any]] = []
    while not trainee.is_done:
        trainee.advance()
        if trainee.step % every == 0 or trainee.is_done:
            curve.append(_validate(trainee, validation))
            report({"run": run.identity, "seconds_so_far": round(time.monotonic() - started, 1), **curve[-1]})
    return _result(trainee, curve, started)


def _validate(trainee: Trainee, kinds: Sequence[RowBatch]) -> dict[str, Any]:
    loss = trainee.mean_loss()
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is not finite at step {trainee.step}")
    asked = [(*trainee.evaluate(batch), batch.answers.numel()) for batch in kinds]
    return {
        "step": trainee.step,
        "loss": round(loss, 6),
        "validation_loss": round(sum(mean for mean, _, _ in asked) / len(asked), 6),
        "validation_accuracy": [round(float(right.sum()) / count, 5) for _, right, count in asked],
    }


def _result(trainee: Trainee, curve: list[dict[str, Any]], started: float) -> dict[str, Any]:
    run, model, tests = trainee.run, trainee.model, []
    for i, task in enumerate(run.tests):
        rows = draw(task, "test", i)
        loss, right = trainee.evaluate(RowBatch.of(rows, trainee.device))
        asked = rows.answers.shape[1]
        accuracy = float(right.sum()) / (len(rows) * asked)
        tests.append(
            {"label": task.label, "asked": asked, "accuracy": accuracy, "loss": round(loss, 6), "right": right.tolist()}
        )
    inner = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and "lm_head" not in name)
    return {
        "identity": run.identity,
        "run": run.to_dict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameters_without_embedding": inner,
        "state_floats": state_floats(model.config),
        "curve": curve,
        "converged": has_converged([entry["validation_loss"] for entry in curve]),
        "tests": tests,
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine(trainee.device),
    }


def has_converged(losses: Sequence[float]) -> bool:
    """Whether the validation loss is flat: compared are the last one and the one at four fifths of the training."""
    if len(losses) < 5:
        return False
    earlier, last = losses[len(losses) * 4 // 5 - 1], losses[-1]
    return earlier - last < max(FLAT * earlier, FLAT)


def machine(device: torch.device) -> dict[str, str]:
    """Where a run took place."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version()}
