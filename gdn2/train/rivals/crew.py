"""Runs as processes, several at a time: each trains one recipe on the device of its place."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from basis.files import write_atomically
from gdn2.train.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]
LINES = 12  # that are kept of what a run says
LATE = 124  # status of a run that was not begun, as of a command that took too long
GRACE = 20.0  # seconds that an interrupted run has to end


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        name: the recipe's.
        device: where.
        seconds: from its process's start to its end.
        status: of the process.
        last: the last lines that it wrote.
    """

    name: str
    device: str
    seconds: float
    status: int
    last: str


class Crew:
    """Trains recipes below one folder: recipes/, logs/, work/ and checkpoints/ have one for each.

    Args:
        folder: where.
        devices: one place each; a device may be named several times.
        prepared: folder of tokenizer and tokens made ahead; None: each run makes its own.
        deadline: in time.monotonic()'s seconds, when what still runs is interrupted; None: never.
    """

    def __init__(
        self, folder: Path, devices: Sequence[str], prepared: Path | None, deadline: float | None = None
    ) -> None:
        self.folder, self.devices, self.prepared, self.deadline = folder.resolve(), devices, prepared, deadline
        self._running: set[subprocess.Popen[bytes]] = set()

    def checkpoint(self, recipe: Recipe) -> Path:
        """The folder of a recipe's checkpoint."""
        return self.folder / "checkpoints" / recipe.name

    def log(self, recipe: Recipe) -> Path:
        """The log of its steps."""
        return self.folder / "work" / recipe.name / "log.jsonl"

    def train(self, recipes: Sequence[Recipe], report: Callable[[Ended], None]) -> list[Ended]:
        """Train recipes; returns how each ended, in their order, and reports them as they do."""
        places: queue.Queue[str] = queue.Queue()
        for device in self.devices:
            places.put(device)
        lock = threading.Lock()

        def one(recipe: Recipe) -> Ended:
            device = places.get()
            try:
                is_late = self.deadline is not None and time.monotonic() >= self.deadline
                ended = Ended(recipe.name, device, 0.0, LATE, "time was up") if is_late else self._run(recipe, device)
            finally:
                places.put(device)
            with lock:
                report(ended)
            return ended

        with ThreadPoolExecutor(len(self.devices)) as pool:
            try:
                return list(pool.map(one, recipes))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._interrupt()
                raise

    def _interrupt(self) -> None:
        """Interrupt what still runs; a terminal has done so already. What was trained since the last save is lost."""
        for process in tuple(self._running):
            try:
                process.wait(GRACE / 10)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)

    def _run(self, recipe: Recipe, device: str) -> Ended:
        for part in ("recipes", "logs"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        file = self.folder / "recipes" / f"{recipe.name}.yaml"
        write_atomically(file, recipe.text)
        log = self.folder / "logs" / f"{recipe.name}.txt"
        command = [sys.executable, "-m", "gdn2.train", str(file), "--device", device]
        command += ["--out", str(self.checkpoint(recipe)), "--work", str(self.log(recipe).parent)]
        command += [] if self.prepared is None else ["--prepared", str(self.prepared.resolve())]
        threads = max(1, (os.cpu_count() or 1) // len(self.devices))
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        started = time.monotonic()
        with log.open("w") as lines:
            process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
            self._running.add(process)
            try:
                status = self._wait(process)
            finally:
                self._running.discard(process)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return Ended(recipe.name, device, time.monotonic() - started, status, "\n".join(said[-LINES:]))

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        """The status of a process; at the deadline it is interrupted, and ended if that does not help."""
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        for seconds, end in ((left, signal.SIGINT), (GRACE, signal.SIGKILL)):
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(end)
            except BaseException:
                process.kill()
                raise
        return process.wait()
