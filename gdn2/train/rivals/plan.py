"""A file of rivals: models, seeds, and one recipe for all, parsed into a recipe for each model and seed."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from basis.errors import FileError
from basis.files import is_file, parse_yaml, read_text
from basis.names import way_out
from gdn2.train.fields import RecipeError, as_mapping, as_text, check_fields, read_mapping
from gdn2.train.recipe import NAME, Recipe, parse_recipe

SHIPPED = Path(__file__).parent
PARTS = ("name", "about", "seeds", "models", "recipe", "suite")
OWN = ("name", "seed", "about")  # fields of a recipe that follow from the file


@dataclass(frozen=True)
class Rivals:
    """What a file asks for.

    Attributes:
        name: of the folder.
        about: a paragraph for the cards.
        seeds: of every model.
        models: by name, the fields of `GDN2Config` that this one has of its own.
        shared: the recipe's fields.
        path: the file.
        text: its content.
        suite: what the trained models are asked: a suite's name, or a file relative to this one; None: nothing.
    """

    name: str
    about: str
    seeds: tuple[int, ...]
    models: dict[str, dict[str, Any]]
    shared: dict[str, Any]
    path: Path
    text: str
    suite: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def recipes(self, share: float = 1.0) -> list[Recipe]:
        """A recipe for each model and seed: every model's first seed, which has its name, then the next seed of each.

        Args:
            share: of the steps of each stage.

        Raises:
            RecipeError: a recipe that cannot be followed.
        """
        return [self._recipe(model, seed, share) for seed in self.seeds for model in self.models]

    def _recipe(self, model: str, seed: int, share: float) -> Recipe:
        fields = copy.deepcopy(self.shared)
        fields["model"] = {**as_mapping(fields.get("model", {}), self.path, "recipe.model"), **self.models[model]}
        stages = fields.get("stages")
        for stage in stages if isinstance(stages, list) else ():
            if isinstance(stage, dict) and isinstance(stage.get("steps"), int):
                stage["steps"] = max(1, round(stage["steps"] * share))
        name = model if seed == self.seeds[0] else f"{model}-seed{seed}"  # the first is the one to ship
        named = {"name": name, "about": f"{self.about} {self._remade(share)}".strip(), "seed": seed}
        text = yaml.safe_dump({**named, **fields}, sort_keys=False, allow_unicode=True, width=120)
        return parse_recipe(text, self.path)

    def _remade(self, share: float) -> str:
        """Words on the command that trains all of them."""
        called = self.path.stem if self.path.parent == SHIPPED else self.path.name
        steps = "" if share == 1 else f" --share {share}"
        return f"`python -m gdn2.train.rivals {called}{steps}` trains all of them."


def is_rivals(name: str) -> bool:
    """Whether a name is that of a shipped file of rivals, or a YAML file with a recipe; False if there is no file."""
    if name in shipped_rivals():
        return True
    try:
        raw = parse_yaml(read_text(Path(name)), name)
    except FileError:
        return False
    return isinstance(raw, dict) and "recipe" in raw


def load_rivals(name: str) -> Rivals:
    """Read a file of rivals, every recipe checked.

    Args:
        name: a YAML file, or the name of a shipped one.

    Raises:
        RecipeError: the file is missing, has an unknown field or lacks one, or a field has a value that it cannot have.
    """
    shipped = shipped_rivals()
    path = shipped.get(name, Path(name))
    if not is_file(path):
        raise RecipeError(f"{name[:100]}: no file of rivals has this name; {way_out(name, shipped)}")
    text, raw = read_mapping(path)
    check_fields(raw, PARTS, path, "a file of rivals")
    shared = as_mapping(raw.get("recipe"), path, "recipe")
    for field in OWN:
        if field in shared:
            raise RecipeError(f"{path}: recipe.{field} follows from the file's own; remove it")
    models = as_mapping(raw.get("models"), path, "models")
    if not models or not all(NAME.fullmatch(model) for model in models):
        raise RecipeError(f"{path}: models must be named by letters, digits, '.', '_' and '-', at least one")
    own = {model: as_mapping(fields, path, f"models.{model}") for model, fields in models.items()}
    name = raw.get("name", path.stem)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RecipeError(f"{path}: name must be letters, digits, '.', '_' and '-', for a folder is named by it")
    about = as_text(raw.get("about"), path, "about")
    suite = as_text(raw.get("suite"), path, "suite") or None
    rivals = Rivals(name, about, _seeds(raw.get("seeds", [1]), path), own, shared, path, text, suite)
    _check_names(rivals)
    return rivals


def _check_names(rivals: Rivals) -> None:
    """See that no two runs have one name, and no two models one meaning; reads every recipe."""
    names = [recipe.name for recipe in rivals.recipes()]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"{rivals.path}: two runs would be called {name}, a model and a seed of one; rename it")
    models = list(rivals.models.items())
    for index, (model, fields) in enumerate(models):
        for other, same in models[:index]:
            if fields == same:
                raise RecipeError(f"{rivals.path}: models.{model} and models.{other} are the same; remove one")


def shipped_rivals() -> dict[str, Path]:
    """The shipped files by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def _seeds(raw: object, path: Path) -> tuple[int, ...]:
    if not isinstance(raw, list) or not raw or not all(type(seed) is int for seed in raw) or len({*raw}) != len(raw):
        raise RecipeError(f"{path}: seeds must be a list of different whole numbers")
    return tuple(raw)
