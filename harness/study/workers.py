"""Runs shared out among worker processes, a few on each device; a worker that dies costs the run that it had."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.paths import ROOT
from harness.study.results import StudyResults, Wanted

Hears = Callable[[int, dict[str, Any]], None]


class _Worker:
    """A process that trains what it is told; its lines go into a queue with its number."""

    def __init__(self, number: int, device: str, folder: Path, lines: queue.Queue[tuple[int, str | None]]) -> None:
        command = [sys.executable, "-m", "gdn2.train.synthetic", "--out", str(folder), "--device", device]
        self.number, self.device = number, device
        self.run: Wanted | None = None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.errors: list[str] = []
        self.spoke = False
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def give(self, run: Wanted) -> None:
        """Have it train a run."""
        self.run = run
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(run.fields) + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Let it end when it is done."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _read(self, lines: queue.Queue[tuple[int, str | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.put((self.number, line))
        lines.put((self.number, None))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors = [*self.errors[-20:], line.rstrip()]


def work(results: StudyResults, devices: Sequence[str], hears: Hears, on_problem: Callable[[str], None]) -> None:
    """Do all runs that a study still asks for.

    Args:
        results: of the study; what is done is taken up into it.
        devices: one worker each; a device may be named several times.
        hears: is told a worker's number and what it says: `run`, `step`, `validation_loss`, …; and `began` with a run
            when it is given one.
        on_problem: is told of what goes wrong.

    Raises:
        UserError: a worker ends before its first step, as it does without memory or a device of that name.
    """
    lines: queue.Queue[tuple[int, str | None]] = queue.Queue()
    results.folder.mkdir(parents=True, exist_ok=True)
    workers: dict[int, _Worker] = {}
    try:
        _share_out(results, devices, workers, lines, hears)
        while any(worker.run for worker in workers.values()):
            number, line = lines.get()
            worker = workers[number]
            if line is None:
                _has_died(worker, results, on_problem)
                del workers[number]
            else:
                said = _parsed(line)
                worker.spoke = worker.spoke or bool(said)
                hears(number, said)
                if worker.run and said.get("run") == worker.run.identity and {"seconds", "failed"} & set(said):
                    results.take_up(worker.run, on_problem)
                    worker.run = None
            _share_out(results, devices, workers, lines, hears)
        for worker in workers.values():
            worker.end()
    finally:
        for worker in workers.values():
            if worker.run is not None:
                worker.process.kill()
            worker.process.wait()


def _share_out(
    results: StudyResults,
    devices: Sequence[str],
    workers: dict[int, _Worker],
    lines: queue.Queue[tuple[int, str | None]],
    hears: Hears,
) -> None:
    """Give idle workers runs; a worker is started when there is work for it."""
    busy = {worker.run.identity for worker in workers.values() if worker.run}
    waiting = [run for run in results.to_do() if run.identity not in busy]
    for number, device in enumerate(devices):
        if not waiting:
            return
        if number in workers and workers[number].run:
            continue
        if number not in workers:
            workers[number] = _Worker(number, device, results.folder, lines)
        run = waiting.pop(0)
        workers[number].give(run)
        hears(number, {"began": run})


def _has_died(worker: _Worker, results: StudyResults, on_problem: Callable[[str], None]) -> None:
    """Write down that the run of a worker failed with it; one that never said a word stops the study."""
    from gdn2.train.synthetic.fit import write_result

    status = worker.process.wait()
    if worker.run is None:
        return
    last = next((line for line in reversed(worker.errors) if line.strip()), "")
    if not worker.spoke:
        raise UserError(f"a worker on {worker.device} ended with status {status} before its first step: {last[:300]}")
    words = f"the worker on {worker.device} ended with status {status}" + (f": {last[:200]}" if last else "")
    run, worker.run = worker.run, None
    write_result(results.folder, {"identity": run.identity, "run": dict(run.fields), "failed": words})
    results.take_up(run, on_problem)
    on_problem(f"{run.model}, rate {run.rate:g}, seed {run.seed}: {words}")


def _parsed(line: str) -> dict[str, Any]:
    """A worker's line; a library's own words on standard output are no news."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
