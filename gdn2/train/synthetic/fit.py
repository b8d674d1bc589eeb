"""Runs trained on one device, one after the other or a few at a time, each with a file of results when it is done."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from basis.files import write_atomically
from gdn2.matching import state_floats
from gdn2.train.synthetic.data import DrawnRows, RowBatch
from gdn2.train.synthetic.spec import LOOKS, Run
from gdn2.train.synthetic.trainee import Trainee, current, fast_products

FLAT = 0.02
"""The fall of the validation loss over the last fifth of a training, as a share of itself or in nats, below which the
training has converged."""
Report = Callable[[dict[str, Any]], None]
Take = Callable[[bool], Run | None]
"""Gives the next run; None where there is none now, or, asked with True to wait for one, where none will come."""
_DONE = object()


def fit(take: Take, folder: Path, device: str, report: Report, together: int = 1) -> None:
    """Train runs and write `IDENTITY.json` for each when it is done.

    A run that fails has a file as well, which says why; the others go on. Runs that train together take their steps in
    turn, on a GPU each on a stream of its own, so that their small kernels share it. Results are the same as alone.

    Args:
        take: gives what to do; asked for the next run when one is done.
        folder: of the results.
        device: as PyTorch names it.
        report: hears that the device works, and how each run goes.
        together: runs at a time.

    Raises:
        RuntimeError: the device is lost to this process, as a GPU is after a fault in a kernel.
    """
    rows = DrawnRows(torch.zeros((), device=device).device)
    report({"device": device})
    active: list[Iterator[None]] = []
    with fast_products(rows.device), current(rows.device):
        while True:
            while len(active) < together and (run := take(not active)) is not None:
                active.append(_recorded(run, rows, folder, report, together))
            if not active:
                return
            active = [one for one in active if next(one, _DONE) is not _DONE]


def taking(runs: Iterable[Run]) -> Take:
    """Give runs that are all known, in their order."""
    left = iter(runs)
    return lambda _: next(left, None)


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write the file of a run, whole or not at all."""
    write_atomically(folder / f"{result['identity']}.json", json.dumps(result, separators=(",", ":")) + "\n")


def _recorded(run: Run, rows: DrawnRows, folder: Path, report: Report, together: int) -> Iterator[None]:
    """Train a run, a step at a time, and write down how it ends."""
    try:
        result = yield from _train(run, rows, report)
        result["together"] = together
    except (RuntimeError, ValueError, FloatingPointError, MemoryError) as error:
        words = " ".join(str(error).split())[:300] or type(error).__name__
        result = {"identity": run.identity, "run": run.to_dict(), "failed": words}
    write_result(folder, result)
    report({"run": run.identity, **{name: result[name] for name in ("failed", "seconds") if name in result}})
    if rows.device.type == "cuda":
        torch.cuda.synchronize(rows.device)  # raises if the run's fault has cost this process its device


def _train(run: Run, rows: DrawnRows, report: Report) -> Generator[None, None, dict[str, Any]]:
    started, every = time.monotonic(), run.training.validate_every
    trainee = Trainee(run, rows.of(run.train, "train"))
    validation = rows.of(run.train, "validation", run.training.validation_rows)
    curve: list[dict[str, Any]] = []
    while not trainee.is_done:
        trainee.advance()
        if trainee.step % every == 0 or trainee.is_done:
            curve.append(_validate(trainee, validation))
            report({"run": run.identity, "seconds_so_far": round(time.monotonic() - started, 1), **curve[-1]})
        yield
    return _result(trainee, curve, rows.of(run.tests, "test"), started)


def _validate(trainee: Trainee, kinds: Sequence[RowBatch]) -> dict[str, Any]:
    loss = trainee.mean_loss()
    asked = [(*trainee.evaluate(batch), batch.answers.numel()) for batch in kinds]
    validation_loss = sum(mean for mean, _, _ in asked) / len(asked)
    if not (math.isfinite(loss) and math.isfinite(validation_loss)):
        raise FloatingPointError(f"the loss is not finite at step {trainee.step}")
    return {
        "step": trainee.step,
        "loss": round(loss, 6),
        "validation_loss": round(validation_loss, 6),
        "validation_accuracy": [round(float(right.sum()) / count, 5) for _, right, count in asked],
    }


def _result(
    trainee: Trainee, curve: list[dict[str, Any]], asked_rows: Sequence[RowBatch], started: float
) -> dict[str, Any]:
    run, model, tests = trainee.run, trainee.model, []
    for task, rows in zip(run.tests, asked_rows, strict=True):
        loss, right = trainee.evaluate(rows)
        asked = rows.answers.shape[1]
        accuracy = float(right.sum()) / (len(rows) * asked)
        tests.append(
            {
                "label": task.label,
                "asked": asked,
                "accuracy": accuracy,
                "loss": round(loss, 6) if math.isfinite(loss) else None,
                "right": right.tolist(),
            }
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
    if len(losses) < LOOKS:
        return False
    earlier, last = losses[len(losses) * 4 // 5 - 1], losses[-1]
    return earlier - last < max(FLAT * earlier, FLAT)


def machine(device: torch.device) -> dict[str, str]:
    """Where a run took place."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version()}
