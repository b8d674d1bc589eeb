"""A study's YAML file: models, rates, seeds and tasks, parsed into the runs that it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from basis.files import is_file
from basis.names import must_be_one_of, way_out
from gdn2.train.fields import RecipeError, as_mapping, as_text, build, check_fields, check_number, number, read_mapping
from gdn2.train.rivals.plan import shipped_rivals
from harness.errors import UserError
from harness.paths import STUDIES

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PARTS = ("name", "about", "base", "models", "train", "tests", "training", "rates", "seeds", "reference")


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Seeds of a study.

    Attributes:
        count: seeds of each model at its best rate, from 1.
        choose: of these, how many train at every rate; the rate is chosen by their validation loss.
    """

    count: int = number(1, 1000, 3)
    choose: int = number(1, 1000, 1)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A grid of runs.

    Attributes:
        name: of its folder of results.
        about: what it asks, a paragraph.
        models: by name in tables, the fields of `GDN2Config` of each, in the table's order.
        reference: the model that the others are compared with.
        rates: learning rates, the same for every model.
        seeds: how many.
        shared: what all runs have in common: `train`, `tests` and `training`, as a run's file has them.
        path: the file.
    """

    name: str
    about: str
    models: Mapping[str, Mapping[str, Any]]
    reference: str
    rates: tuple[float, ...]
    seeds: Seeds
    shared: Mapping[str, Any]
    path: Path

    @property
    def called(self) -> str:
        """What the command line calls it: its name if it is shipped, else its file."""
        return self.path.stem if self.path.parent == STUDIES else str(self.path)

    def against(self, reference: str) -> Study:
        """The same study, its models compared with another of them.

        Raises:
            UserError: none of its models has this name.
        """
        if reference not in self.models:
            raise UserError(f"--reference {must_be_one_of(self.models, reference)}")
        return replace(self, reference=reference)

    def run(self, model: str, rate: float, seed: int) -> dict[str, Any]:
        """The fields of one run, as `gdn2.train.synthetic.spec.read_run` takes them."""
        return {
            "model": model,
            "config": dict(self.models[model]),
            "learning_rate": rate,
            "seed": seed,
            **self.shared,
        }


def shipped_studies() -> dict[str, Path]:
    """The studies that come with the project, by name."""
    return {path.stem: path for path in sorted(STUDIES.glob("*.yaml"))}


def load_study(name: str) -> Study:
    """Read a study.

    Args:
        name: of a shipped one, or a YAML file.

    Raises:
        UserError: nothing has this name, the file is no YAML, has an unknown field or lacks one, or a field has a
            value that it cannot have.
    """
    path = shipped_studies().get(name, Path(name))
    if not is_file(path):
        known = way_out(name, [*shipped_studies(), *shipped_rivals()])
        raise UserError(f"{name[:100]}: no study and no file has this name; {known}")
    _, raw = read_mapping(path)
    check_fields(raw, PARTS, path, "a study")
    named = raw.get("name")
    if not isinstance(named, str) or not NAME.fullmatch(named):
        raise RecipeError(f"{path}: name must be letters, digits, '.', '_' and '-', for a folder is named by it")
    models = _models(raw, path)
    study = Study(
        name=named,
        about=as_text(raw.get("about"), path, "about"),
        models=models,
        reference=_reference(raw, models, path),
        rates=_rates(raw.get("rates"), path),
        seeds=build(Seeds, raw.get("seeds", {}), path, "seeds"),
        shared={part: raw.get(part) for part in ("train", "tests", "training")},
        path=path,
    )
    _check_runs(study)
    return study


def _models(raw: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """Each model's fields: those of all models, and its own over them."""
    base = as_mapping(raw.get("base", {}), path, "base")
    models = as_mapping(raw.get("models"), path, "models")
    if not models or not all(name.strip() for name in models):
        raise RecipeError(f"{path}: models must name at least one model, and none by an empty name")
    own = {name: {} if fields is None else fields for name, fields in models.items()}
    return {name: {**base, **as_mapping(fields, path, f"models.{name}")} for name, fields in own.items()}


def _reference(raw: Mapping[str, Any], models: Mapping[str, Any], path: Path) -> str:
    reference = raw.get("reference", next(iter(models)))
    if not isinstance(reference, str) or reference not in models:
        raise RecipeError(f"{path}: reference {must_be_one_of(models, reference)}")
    return reference


def _rates(raw: object, path: Path) -> tuple[float, ...]:
    if not isinstance(raw, list) or not raw:
        raise RecipeError(f"{path}: rates must be a list of learning rates")
    for index, rate in enumerate(raw):
        check_number(rate, f"{path}: rates[{index}]", (0, 10), above=True)
    if len(set(raw)) != len(raw):
        raise RecipeError(f"{path}: rates has a rate twice")
    return tuple(float(rate) for rate in raw)


def _check_runs(study: Study) -> None:
    """See that every model can be trained, before an hour is spent on the first."""
    from gdn2.config import GDN2Config
    from gdn2.matching import repeated
    from gdn2.train.synthetic.spec import read_run, read_tasks

    if study.seeds.choose > study.seeds.count:
        raise RecipeError(f"{study.path}: seeds.choose must be at most seeds.count ({study.seeds.count})")
    labels: dict[str, int] = {}
    for index, task in enumerate(read_tasks(study.shared["tests"], study.path, "tests")):
        if (first := labels.setdefault(task.label, index)) != index:
            raise RecipeError(
                f"{study.path}: tests[{index}] and tests[{first}] have one name in tables, {task.label}; remove one"
            )
    configs: dict[str, GDN2Config] = {}
    for model in study.models:
        try:
            run = read_run(study.run(model, study.rates[0], 1), study.path)
        except RecipeError as error:
            raise RecipeError(f"{error} (model {model})") from error
        configs[model] = GDN2Config(**run.config)
    if (twins := repeated(configs)) is not None:
        raise RecipeError(f"{study.path}: models.{twins[0]} and models.{twins[1]} are the same; remove one")
