"""Runs as processes, several at a time, each of one recipe on the device of its place; they end with this one."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from basis import children
from basis.children import ROOT
from basis.files import write_atomically
from gdn2.train.recipe import Recipe

LINES = 12  # that are kept of what a run says
LATE = 124  # status of a run that was not begun, as of a command that took too long
TOLD = signal.SIGTERM  # SIGINT is ignored by what a script has started in the background
GRACE = 20.0  # seconds that an interrupted run has to end
ASKED = ", asked"  # behind the name of what is done with a checkpoint


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        name: the recipe's, or what is done with its checkpoint.
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


Then = Callable[[Path, str], "list[str] | None"]
"""What is done with a finished checkpoint on a device: a command, or None where there is nothing to do any more."""


class Crew:
    """Trains recipes below one folder: recipes/, logs/, work/ and checkpoints/ have one for each.

    Args:
        folder: where.
        devices: one place each; a device may be named several times.
        prepared: folder of tokenizer and tokens made ahead; None: each run makes its own.
        deadline: in time.monotonic()'s seconds, when what still trains is interrupted; None: never.
        last: when what is done with checkpoints is interrupted; None: never.
    """

    def __init__(
        self,
        folder: Path,
        devices: Sequence[str],
        prepared: Path | None,
        deadline: float | None = None,
        last: float | None = None,
    ) -> None:
        self.folder, self.devices, self.prepared = folder.resolve(), devices, prepared
        self.deadline, self.last = deadline, last
        self._running: set[subprocess.Popen[bytes]] = set()
        self._starting, self._is_over = threading.Lock(), False

    def checkpoint(self, recipe: Recipe) -> Path:
        """The folder of a recipe's checkpoint."""
        return self.folder / "checkpoints" / recipe.name

    def log(self, recipe: Recipe) -> Path:
        """The log of its steps."""
        return self.folder / "work" / recipe.name / "log.jsonl"

    def train(
        self,
        recipes: Sequence[Recipe],
        report: Callable[[Ended], None],
        then: Then | None = None,
        done: Sequence[Recipe] = (),
    ) -> tuple[list[Ended], list[Ended]]:
        """Train recipes, and do something with each checkpoint.

        Trainings come first: a place does the rest when no recipe waits for one any more.

        Args:
            recipes: what is trained, in this order.
            report: is told how each process ended, as it does.
            then: what is done with each checkpoint; None: nothing.
            done: recipes that were trained before, whose checkpoints it is done with too.

        Returns:
            How each training ended, and each process after one, in no certain order.
        """
        places: queue.Queue[str] = queue.Queue()
        for device in self.devices:
            places.put(device)
        lock = threading.Lock()

        def placed(run: Callable[[Recipe, str], Ended | None], recipe: Recipe) -> Ended | None:
            device = places.get()
            try:
                ended = run(recipe, device)
            finally:
                places.put(device)
            with lock:
                if ended is not None:
                    report(ended)
            return ended

        def follow(recipe: Recipe, device: str) -> Ended | None:
            return None if then is None else self._follow(recipe, device, then)

        with ThreadPoolExecutor(len(self.devices)) as pool:
            try:
                trained = {pool.submit(placed, self._train, recipe): recipe for recipe in recipes}
                following = [pool.submit(placed, follow, recipe) for recipe in done]
                for future in as_completed(trained):
                    if (ended := future.result()) is not None and not ended.status:
                        following.append(pool.submit(placed, follow, trained[future]))
                found = [[ended for one in part if (ended := one.result())] for part in (list(trained), following)]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self._interrupt()
                raise
        return found[0], found[1]

    def _interrupt(self) -> None:
        """Interrupt what still runs; a terminal has done so already. What was trained since the last save is lost."""
        with self._starting:
            self._is_over, running = True, tuple(self._running)
        for seconds, end in ((GRACE / 10, TOLD), (GRACE, signal.SIGKILL)):
            until = time.monotonic() + seconds
            for process in running:
                try:
                    process.wait(max(0.0, until - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.send_signal(end)

    def _train(self, recipe: Recipe, device: str) -> Ended:
        file = self.folder / "recipes" / f"{recipe.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, recipe.text)
        arguments = [str(file), "--device", device]
        arguments += ["--out", str(self.checkpoint(recipe)), "--work", str(self.log(recipe).parent)]
        arguments += [] if self.prepared is None else ["--prepared", str(self.prepared.resolve())]
        return self._run(recipe.name, device, children.command("gdn2.train", arguments), self.deadline, Path.cwd())

    def _follow(self, recipe: Recipe, device: str, then: Then) -> Ended | None:
        command = then(self.checkpoint(recipe), device)
        return None if command is None else self._run(f"{recipe.name}{ASKED}", device, command, self.last, ROOT)

    def _run(self, name: str, device: str, command: list[str], deadline: float | None, where: Path) -> Ended:
        """Run a command in a folder to its end, or interrupt it at the deadline; none is begun behind it.

        Trainings run where the caller does, since a recipe may name its text relative to that.
        """
        if deadline is not None and time.monotonic() >= deadline:
            return Ended(name, device, 0.0, LATE, "time was up")
        log = self.folder / "logs" / f"{name.replace(ASKED, '.asked')}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // len(self.devices)))
        environment = children.environment(OMP_NUM_THREADS=threads, TOKENIZERS_PARALLELISM="false")
        started = time.monotonic()
        with self._starting:
            if self._is_over:
                return Ended(name, device, 0.0, LATE, "interrupted")
            with log.open("w") as lines:
                process = subprocess.Popen(command, stdout=lines, stderr=subprocess.STDOUT, cwd=where, env=environment)
            self._running.add(process)
        try:
            status = self._wait(process, deadline)
        finally:
            self._running.discard(process)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return Ended(name, device, time.monotonic() - started, status, "\n".join(said[-LINES:]))

    def _wait(self, process: subprocess.Popen[bytes], deadline: float | None) -> int:
        """The status of a process; at the deadline it is interrupted, and ended if that does not help."""
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        for seconds, end in ((left, TOLD), (GRACE, signal.SIGKILL)):
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(end)
            except BaseException:
                process.kill()
                raise
        return process.wait()
