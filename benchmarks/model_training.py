"""A training step of a model, on one device or one each of several processes; `benchmarks/model.py` runs it."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from basis import children
from gdn2 import GDN2Config, GDN2ForCausalLM
from gdn2.train.objective import MicroBatch, Objective, Term
from gdn2.train.place import Place
from gdn2.train.sharing import apart, clip, shared

WARM_UPS, STEPS = 2, 6
Settings = dict[str, Any]
"""What a process is told: the config of a model, lengths, tokens a micro-batch, how steps are taken."""


class Training:
    """Steps of a fresh model over random tokens: AdamW in one kernel, gradients clipped at 1."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        torch.manual_seed(0)
        with torch.device(device):
            self.model = GDN2ForCausalLM(GDN2Config(**settings["config"])).train()
        if settings.get("checkpointing"):
            self.model.model.gradient_checkpointing = True
        self.device, self.vocabulary, self.parts = device, self.model.config.vocab_size, settings["accumulation"]
        self.processes = distributed.get_world_size() if distributed.is_initialized() else 1
        precisions = {name: settings[name] for name in ("precision", "residual")}
        objective = Objective(self.model, **precisions, loss_rows=settings["slices"])
        self.objective = shared(objective, Place(device, processes=self.processes), sharded=False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def part(self, rows: int, length: int) -> MicroBatch:
        ids = torch.randint(self.vocabulary, (rows, length + 1))
        places, none = torch.arange(rows * length), torch.arange(0)
        count = rows * length * self.processes * self.parts
        return MicroBatch(ids[:, :-1], Term(places, ids[:, 1:].flatten(), count), Term(none, none, 0)).to(self.device)

    def step(self, part: MicroBatch) -> float:
        """A step whose micro-batches are all this one; returns the gradient's length."""
        for number in range(self.parts):
            with apart(self.objective, last=number == self.parts - 1):
                loss, _ = self.objective(part)
                loss.backward()
        norm = clip(self.model, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def measure(settings: Settings, device: torch.device) -> list[dict[str, Any]]:
    """A row for each length: tokens a second of all processes, milliseconds, and the peak of memory of one."""
    training, rows = Training(settings, device), []
    for length in settings["lengths"]:
        part = training.part(max(settings["tokens"] // length, 1), length)
        row: dict[str, Any] = {"length": length, "processes": training.processes, "rows": len(part.input_ids)}
        row |= {"accumulation": training.parts} if training.parts > 1 else {}
        try:
            with peak_of(device, row):
                row["ms"] = 1000 * statistics.median(_seconds(training, part))
        except torch.OutOfMemoryError:
            training.optimizer.zero_grad(set_to_none=True)
            rows.append({**row, "failed": "out of memory"})
            torch.cuda.empty_cache()
            continue
        row["tokens/s"] = part.input_ids.numel() * training.parts * training.processes / row["ms"] * 1000
        rows.append(row)
    return rows


def _seconds(training: Training, part: MicroBatch) -> list[float]:
    found = []
    for number in range(WARM_UPS + STEPS):
        started = time.perf_counter()
        training.step(part)
        if training.device.type == "cuda":
            torch.cuda.synchronize()
        found += [time.perf_counter() - started] if number >= WARM_UPS else []
    return found


@contextlib.contextmanager
def peak_of(device: torch.device, row: dict[str, Any]) -> Iterator[None]:
    """Put the peak of the device's memory inside into a row; on a CPU nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize()
        row["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30


def in_processes(settings: Settings, count: int) -> list[dict[str, Any]]:
    """The same by torchrun with so many processes, each of which has the tokens of a step for itself."""
    with tempfile.TemporaryDirectory() as folder:
        told, found = Path(folder) / "settings.json", Path(folder) / "rows.json"
        told.write_text(json.dumps(settings), encoding="utf-8")
        options = ["--standalone", "--nproc-per-node", str(count), __file__, str(told), str(found)]
        command = children.command("torch.distributed.run", options)
        done = subprocess.run(command, env=children.environment(OMP_NUM_THREADS="1"), check=False)
        if done.returncode:
            return [{"length": length, "processes": count, "failed": "torchrun"} for length in settings["lengths"]]
        rows: list[dict[str, Any]] = json.loads(found.read_text(encoding="utf-8"))
        return rows


def main() -> None:
    """One of the processes: settings from one file, the rows of the first process into another."""
    children.end_with(os.getppid())
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    local = int(os.environ["LOCAL_RANK"])
    on_gpu = settings["device"] == "cuda"
    device = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    rows = measure(settings, device)
    if distributed.get_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(rows), encoding="utf-8")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
