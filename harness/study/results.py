"""What a study has: results by run, which runs are still to be done, and which rate is a model's best."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.study.plan import Study

RUNS = "runs"


@dataclass(frozen=True)
class Wanted:
    """One run of a study: its place in the grid, its identity, and what a worker is told."""

    model: str
    rate: float
    seed: int
    identity: str
    fields: Mapping[str, Any]

    @property
    def words(self) -> str:
        """Which it is, for people."""
        return f"{self.model}, rate {self.rate:g}, seed {self.seed}"


class StudyResults:
    """The results of a study in its folder.

    Args:
        study: whose they are.
        folder: of the study's results; its `runs` has a file a run.
        on_problem: is told of a file that cannot be read; that run is then done again.
    """

    def __init__(self, study: Study, folder: Path, on_problem: Callable[[str], None]) -> None:
        self.study, self.folder = study, folder / RUNS
        self.grid = {(run.model, run.rate, run.seed): run for run in _grid(study)}
        self.found: dict[str, dict[str, Any]] = {}
        for run in self.grid.values():
            self.take_up(run, on_problem)

    def take_up(self, run: Wanted, on_problem: Callable[[str], None]) -> bool:
        """Read the result of a run, if there is one."""
        path = self.folder / f"{run.identity}.json"
        if not path.is_file():
            return False
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            if result["identity"] != run.identity or not ("failed" in result or result["tests"]):
                raise ValueError("it is of another run")
        except (OSError, ValueError, KeyError, TypeError) as error:
            on_problem(f"{path}: cannot be read ({error}); the run is done again")
            return False
        self.found[run.identity] = result
        return True

    def result(self, model: str, rate: float, seed: int) -> dict[str, Any] | None:
        """The result of a run of the grid; None while there is none."""
        return self.found.get(self.grid[model, rate, seed].identity)

    def best_rate(self, model: str) -> float | None:
        """The rate with the lowest mean validation loss over the seeds that choose.

        A rate at which one of them failed cannot be chosen. None while a run that decides is missing, or if all fail.
        """
        losses: dict[float, float] = {}
        for rate in self.study.rates:
            results = [self.result(model, rate, seed) for seed in self._choosing()]
            if any(result is None for result in results):
                return None
            ends = [result["curve"][-1]["validation_loss"] for result in results if result and "curve" in result]
            if len(ends) == len(results):
                losses[rate] = sum(ends) / len(ends)
        return min(losses, key=lambda rate: losses[rate]) if losses else None

    def to_do(self) -> list[Wanted]:
        """The runs that can be done now, model by model: those that choose its rate, then further seeds at the best."""
        study, runs = self.study, []
        for model in study.models:
            runs += [self.grid[model, rate, seed] for seed in self._choosing() for rate in study.rates]
            if (best := self.best_rate(model)) is not None:
                further = range(study.seeds.choose + 1, study.seeds.count + 1)
                runs += [self.grid[model, best, seed] for seed in further]
        return [run for run in runs if run.identity not in self.found]

    @property
    def total(self) -> int:
        """Runs of the whole study: all rates with the seeds that choose, one rate with the others."""
        seeds = self.study.seeds
        return len(self.study.models) * (len(self.study.rates) * seeds.choose + seeds.count - seeds.choose)

    def failed(self) -> list[tuple[Wanted, str]]:
        """The runs that failed, with the reason."""
        return [
            (run, str(result["failed"]))
            for run in self.grid.values()
            if (result := self.found.get(run.identity)) and "failed" in result
        ]

    def _choosing(self) -> range:
        return range(1, self.study.seeds.choose + 1)


def folder_of(study: Study, output: Path) -> Path:
    """Where a study's results lie.

    Raises:
        UserError: a file is in the way.
    """
    folder = output / study.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file is where the study's folder belongs; choose another --output")
    return folder


def _grid(study: Study) -> list[Wanted]:
    from gdn2.train.synthetic.spec import read_run

    runs = []
    for model in study.models:
        for rate in study.rates:
            for seed in range(1, study.seeds.count + 1):
                fields = study.run(model, rate, seed)
                runs.append(Wanted(model, rate, seed, read_run(fields, study.path).identity, fields))
    return runs
