"""`run_eval.py plan`: what a run would ask for, before any of it is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import DTYPES, CheckpointError, fingerprint, read_config
from harness.checkpoints.imports import import_for_run
from harness.engine.memory import bytes_per_token, limits_of
from harness.errors import UserError
from harness.run.census import count, newest_rate
from harness.run.options import RunOptions, make_plan
from harness.show.estimate import Estimate, print_plan


def plan_run(options: RunOptions, rate: float | None, results: Sequence[Path], console: Console) -> None:
    """Count what the options ask for and print it with an estimate.

    Args:
        rate: tokens a second; None: of the newest run of this checkpoint on this kind of device in `results`.

    Raises:
        UserError, TaskError, CheckpointError: what a run would stop at before it loads the model.
    """
    if rate is not None and rate <= 0:
        raise UserError(f"--tokens-per-second must be above 0, got {rate}")
    if options.dtype not in DTYPES:
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, got {options.dtype!r}")
    plan = import_for_run(make_plan(options), options, console)
    config = read_config(plan.checkpoint)
    with console.status("counting") as status:
        tasks = count(plan, options, config, lambda name: status.update(f"counting {name}"))
    device = _device(options.device)
    said = "as given"
    if rate is None:
        known = newest_rate(results, fingerprint(plan.checkpoint), str(device))
        said = f"of {known[1]}" if known else f"unknown on {device}: no run of this checkpoint yet; --tokens-per-second"
        rate = known[0] if known else None
    with torch.device("meta"):
        model = GDN2ForCausalLM(config)
    limits = limits_of(model, batch_size=options.batch_size, tokens=options.batch_tokens, device=device)
    estimate = Estimate(
        rate=rate,
        rate_from=said,
        weight_bytes=sum(p.numel() for p in model.parameters()) * DTYPES[options.dtype].itemsize,
        state_bytes=model.model.state_bytes(max((task.longest for task in tasks), default=0)) * limits.rows,
        step_bytes=bytes_per_token(model) * limits.tokens,
    )
    print_plan(tasks, estimate, console)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        return torch.device("cpu")  # planned on a machine without the GPU that the run will have
    return torch.device(name)
