"""Runs shared out among worker processes, one for each device; one that dies costs the runs that it had."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from basis import children
from basis.locks import alone_in
from harness.errors import UserError
from harness.paths import ROOT
from harness.records.store import ensure_folder
from harness.study.results import StudyResults, Wanted
from harness.words import counted

Hears = Callable[[int, dict[str, Any]], None]


class _Worker:
    """A process that trains what it is told; its lines go into a queue with it."""

    def __init__(
        self, device: str, together: int, folder: Path, lines: queue.Queue[tuple[_Worker, str | None]]
    ) -> None:
        arguments = ["--out", str(folder.resolve()), "--device", device, "--together", str(together)]
        self.device = device
        self.runs: dict[int, Wanted] = {}  # by the place that has each
        self.process = subprocess.Popen(
            children.command("gdn2.train.synthetic", arguments),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env=children.environment(),
        )  # fmt: skip
        self.errors: list[str] = []
        self.spoke = False
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def give(self, place: int, run: Wanted) -> None:
        """Have it train a run; one that has ended will be found out by its lines."""
        self.runs[place] = run
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(run.fields) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def place_of(self, identity: object) -> int | None:
        """The place that has a run."""
        return next((place for place, run in self.runs.items() if run.identity == identity), None)

    def _read(self, lines: queue.Queue[tuple[_Worker, str | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            lines.put((self, line))
        lines.put((self, None))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors = [*self.errors[-20:], line.rstrip()]


def work(
    results: StudyResults,
    devices: Sequence[str],
    hears: Hears,
    on_problem: Callable[[str], None],
    seconds: float | None = None,
) -> None:
    """Do all runs that a study still asks for.

    Args:
        results: of the study; what is done is taken up into it.
        devices: a run at a time for each; a device may be named several times. A GPU then trains as many in one
            process, a CPU in several.
        hears: is told the place of a device in that list, and what is said of its run: `run`, `step`,
            `validation_loss`, …; and `began` with a run when one is given out.
        on_problem: is told of what goes wrong, and of runs that are left when time is up.
        seconds: what there is time for. No run is begun that would not be done by then, if it took as long as the
            longest one so far; what is not done by then is given up.

    Raises:
        UserError: a worker ends before it has its device, as it does without memory or a device of that name; or the
            folder of results cannot be used, or another process works in it.
    """
    with alone_in(results.folder):
        ensure_folder(results.folder)
        crew = _Crew(results, devices, hears, on_problem, seconds)
        try:
            crew.share_out()
            while crew.is_busy:
                crew.listen()
                crew.share_out()
        except queue.Empty:
            pass
        finally:
            crew.dismiss()
    if left := results.total - results.done:
        on_problem(f"time is up with {counted(left, 'run')} still to do; the same command goes on from here")
        if not crew.longest:
            on_problem(f"no run was done in that time{crew.longer}, and nothing is kept of a part of one; give it more")


class _Crew:
    """The workers of a study and what each does."""

    def __init__(
        self,
        results: StudyResults,
        devices: Sequence[str],
        hears: Hears,
        on_problem: Callable[[str], None],
        seconds: float | None,
    ) -> None:
        self.results, self.devices, self.hears, self.on_problem = results, devices, hears, on_problem
        self.end = None if seconds is None else time.monotonic() + seconds
        self.longest = 0.0  # seconds of a run
        self.longer = ""  # what a run under way would have taken, in words
        self.began: dict[int, float] = {}
        self.lines: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()
        self.workers: dict[str, _Worker] = {}

    @property
    def is_busy(self) -> bool:
        """Whether there is a run that is not done."""
        return any(worker.runs for worker in self.workers.values())

    def share_out(self) -> None:
        """Give places without a run one; a worker is started when there is work for it."""
        busy = {run.identity for worker in self.workers.values() for run in worker.runs.values()}
        waiting = [run for run in self.results.to_do() if run.identity not in busy]
        for place, device in enumerate(self.devices):
            if not waiting or (self.end is not None and time.monotonic() + self.longest >= self.end):
                return
            process = device if device.startswith("cuda") else f"{device} {place}"
            worker = self.workers.get(process)
            if worker is not None and place in worker.runs:
                continue
            if worker is None:
                together = self.devices.count(device) if process == device else 1
                worker = self.workers[process] = _Worker(device, together, self.results.folder, self.lines)
            run = waiting.pop(0)
            self.began[place] = time.monotonic()
            worker.give(place, run)
            self.hears(place, {"began": run})

    def listen(self) -> None:
        """Wait for a worker's next line, and do what it asks for.

        Raises:
            queue.Empty: time is up.
            UserError: a result is not there although its run is done, which would be done for ever.
        """
        worker, line = self.lines.get(timeout=None if self.end is None else max(self.end - time.monotonic(), 0))
        if line is None:
            self.workers = {name: other for name, other in self.workers.items() if other is not worker}
            _has_died(worker, self.results, self.on_problem)
            return
        said = _parsed(line)
        worker.spoke = worker.spoke or bool(said)
        place = worker.place_of(said.get("run"))
        if place is None:
            return
        self.hears(place, said)
        if "step" in said:
            seconds = said["seconds_so_far"] / said["step"] * self.results.study.shared["training"]["steps"]
            self.longer = f" (one takes about {seconds:.0f} s)"
        if {"seconds", "failed"} & set(said):
            run = worker.runs.pop(place)
            if not self.results.take_up(run, self.on_problem):
                raise UserError(
                    f"{self.results.folder}: the result of {run.words} cannot be read back; look at that disk"
                )
            self.longest = max(self.longest, time.monotonic() - self.began[place])

    def dismiss(self) -> None:
        """End all workers, whatever they do."""
        for worker in self.workers.values():
            if worker.runs:
                worker.process.kill()
            assert worker.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                worker.process.stdin.close()
            worker.process.wait()


def _has_died(worker: _Worker, results: StudyResults, on_problem: Callable[[str], None]) -> None:
    """Write down that the runs of a worker failed with it; one that never said a word stops the study."""
    from gdn2.train.synthetic.fit import write_result

    status = worker.process.wait()
    last = next((line for line in reversed(worker.errors) if line.strip()), "")
    reason = f": {last[:200]}" if last else ""
    if worker.runs and not worker.spoke:
        raise UserError(f"a worker on {worker.device} {_ended(status)} before its first step{reason}")
    words = f"the worker on {worker.device} {_ended(status)}{reason}"
    for run in worker.runs.values():
        write_result(results.folder, {"identity": run.identity, "run": dict(run.fields), "failed": words})
        results.take_up(run, on_problem)
        on_problem(f"{run.words}: {words}")


def _ended(status: int) -> str:
    """How a process ended, in words: Python gives the number of a signal that ended it as a negative status."""
    if status >= 0:
        return f"ended with status {status}"
    name = signal.Signals(-status).name if -status in {*signal.Signals} else f"signal {-status}"
    hint = ", as systems do where memory runs out" if -status == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"


def _parsed(line: str) -> dict[str, Any]:
    """A worker's line; a library's own words on standard output are no news."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
