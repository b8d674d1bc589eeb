"""What a run would ask for and take, before any of it is run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gdn2 import GDN2ForCausalLM
from gdn2.checkpoints import DTYPES, choose_dtype, fingerprint, read_config
from harness.engine.memory import bytes_per_token, chosen_device, limits_of
from harness.errors import UserError
from harness.runs.census import TaskCensus, count, newest_rate
from harness.runs.listener import Listener, Silence
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run, with_native_checkpoint


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run asks for, and what that takes.

    Attributes:
        tasks: what each task asks for.
        rate: tokens a second, or None if nobody knows.
        rate_from: where that comes from.
        weight_bytes: of the weights.
        state_bytes: of the states of a full batch.
        step_bytes: of the activations of a step.
        dtype: what the run would be in.
    """

    tasks: Sequence[TaskCensus]
    rate: float | None
    rate_from: str
    weight_bytes: int
    state_bytes: int
    step_bytes: int
    dtype: str


def estimate_run(
    options: RunOptions, rate: float | None, results: Sequence[Path], listener: Listener | None = None
) -> Estimate:
    """Count what the options ask for, and estimate its time and memory.

    Args:
        options: as for a run.
        rate: tokens a second; None: of the newest run of this checkpoint on this kind of device in `results`.
        results: folders of records.
        listener: hears what is being counted.

    Raises:
        UserError, TaskError, gdn2.checkpoints.CheckpointError: what a run would stop at before it loads the model.
    """
    listener = listener or Silence()
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise UserError(f"--tokens-per-second must be a number above 0, got {rate}")
    run = with_native_checkpoint(resolve_run(options), listener)
    config = read_config(run.checkpoint)
    with listener.status("counting") as update:
        tasks = count(run, config, lambda name: update(f"counting {name}"))
    device = _device(options.device)
    said = "as given"
    if rate is None:
        known = newest_rate(results, fingerprint(run.checkpoint), str(device))
        said = f"of {known[1]}" if known else f"unknown on {device}: no run of this checkpoint yet; --tokens-per-second"
        rate = known[0] if known else None
    with torch.device("meta"):
        model = GDN2ForCausalLM(config)
    dtype = choose_dtype(run.checkpoint, options.dtype, str(device) if options.device == "auto" else options.device)
    limits = limits_of(model, batch_size=options.batch_size, tokens=options.batch_tokens, device=device)
    longest = max((task.longest for task in tasks), default=0)
    return Estimate(
        tasks=tasks,
        rate=rate,
        rate_from=said,
        weight_bytes=sum(p.numel() for p in model.parameters()) * DTYPES[dtype].itemsize,
        state_bytes=model.model.state_bytes(longest) * limits.within(longest).rows,
        step_bytes=bytes_per_token(model) * limits.tokens,
        dtype=dtype,
    )


def _device(name: str) -> torch.device:
    name = chosen_device(name)
    if name.startswith("cuda") and not torch.cuda.is_available():
        return torch.device("cpu")  # planned on a machine without the GPU that the run will have
    return torch.device(name)
