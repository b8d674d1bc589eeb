"""What a study has: results by run, which runs are still to be done, and which rate is a model's best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basis.errors import FileError
from basis.files import load_json
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
        self._tests = _labels(study)
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
            result = _checked(load_json(path), run, self._tests)
        except FileError as error:
            on_problem(f"{error}; the run is done again")
            return False
        except ValueError as error:
            on_problem(f"{path}: cannot be read ({error}); the run is done again")
            return False
        self.found[run.identity] = result
        return True

    def result(self, model: str, rate: float, seed: int) -> dict[str, Any] | None:
        """The result of a run of the grid; None while there is none."""
        return self.found.get(self.grid[model, rate, seed].identity)

    def best_rate(self, model: str) -> float | None:
        """The rate with the lowest mean validation loss over the seeds that choose.

        A rate at which one of them failed cannot be chosen; of rates that are equally good the lowest is. None while a
        run that decides is missing, or if all fail.
        """
        losses: dict[float, float] = {}
        for rate in self.study.rates:
            results = [self.result(model, rate, seed) for seed in self._choosing()]
            if any(result is None for result in results):
                return None
            ends = [result["curve"][-1]["validation_loss"] for result in results if result and "curve" in result]
            if len(ends) == len(results):
                losses[rate] = sum(ends) / len(ends)
        return min(losses, key=lambda rate: (losses[rate], rate)) if losses else None

    def has_failed(self, model: str) -> bool:
        """Whether a model cannot go on: what decides its rate is done, and at no rate without a failure."""
        deciding = (self.result(model, rate, seed) for rate in self.study.rates for seed in self._choosing())
        return self.best_rate(model) is None and all(result is not None for result in deciding)

    def wanted(self) -> list[Wanted]:
        """The runs that are asked for, model by model: those that choose its rate, then further seeds at the best.

        Which the further ones are is known once a rate is chosen.
        """
        study, runs = self.study, []
        for model in study.models:
            runs += [self.grid[model, rate, seed] for seed in self._choosing() for rate in study.rates]
            if (best := self.best_rate(model)) is not None:
                further = range(study.seeds.choose + 1, study.seeds.count + 1)
                runs += [self.grid[model, best, seed] for seed in further]
        return runs

    def to_do(self) -> list[Wanted]:
        """The runs that can be done now, in that order."""
        return [run for run in self.wanted() if run.identity not in self.found]

    @property
    def done(self) -> int:
        """Runs that are asked for and have ended; a result that a changed file no longer asks for is not counted."""
        return sum(run.identity in self.found for run in self.wanted())

    @property
    def total(self) -> int:
        """Runs of the whole study: all rates with the seeds that choose, one rate with the others.

        A model that failed at every rate has no others.
        """
        seeds, models = self.study.seeds, self.study.models
        chosen = sum(not self.has_failed(model) for model in models)
        return len(models) * len(self.study.rates) * seeds.choose + chosen * (seeds.count - seeds.choose)

    def failed(self) -> list[tuple[Wanted, str]]:
        """The runs that failed, with the reason."""
        return [
            (run, result["failed"])
            for run in self.wanted()
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


def _labels(study: Study) -> list[str]:
    """The study's tests by their names in tables."""
    from gdn2.train.synthetic.spec import read_tasks

    return [task.label for task in read_tasks(study.shared["tests"], study.path, "tests")]


def _checked(result: Any, run: Wanted, tests: Sequence[str]) -> dict[str, Any]:
    """See that a file holds what tables are made of.

    Raises:
        ValueError: it is of another run, or lacks something.
    """
    if not isinstance(result, dict) or result.get("identity") != run.identity:
        raise ValueError("it is of another run")
    if "failed" in result:
        if not isinstance(result["failed"], str):
            raise ValueError("it does not say why the run failed")
        return result
    curve: Any = result.get("curve")
    asked: Any = result.get("tests")
    floats: Any = result.get("state_floats")
    found = {
        "curve": _is_list(curve) and all(_is_number(entry.get("validation_loss")) for entry in curve),
        "tests": _is_list(asked)
        and [entry.get("label") for entry in asked] == list(tests)
        and all(_is_number(entry.get("accuracy")) and 0 <= entry["accuracy"] <= 1 for entry in asked),
        "state_floats": isinstance(floats, list) and all(size is None or type(size) is int for size in floats),
        "converged": isinstance(result.get("converged"), bool),
        "together": type(result.get("together", 1)) is int,
    }
    numbers = ("parameters", "parameters_without_embedding", "seconds")
    found |= {name: _is_number(result.get(name)) for name in numbers}
    for name, is_right in found.items():
        if not is_right:
            raise ValueError(f"{name} is missing or wrong")
    return result


def _is_list(value: object) -> bool:
    """Whether something is a list of mappings, and not an empty one."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
