"""A training recipe: one YAML file that fixes a checkpoint, parsed into dataclasses that refuse unknown fields."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class RecipeError(ValueError):
    """A recipe that cannot be followed; the message names the file and the field."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where text comes from: JSON lines with "title" and "text". `~` and environment variables are expanded; the
    variable GDN2_DATA defaults to ~/.cache/gdn2/data."""

    train: str
    heldout: str

    def paths(self) -> tuple[Path, Path]:
        os.environ.setdefault("GDN2_DATA", str(Path.home() / ".cache" / "gdn2" / "data"))
        train, heldout = (Path(os.path.expandvars(os.path.expanduser(name))) for name in (self.train, self.heldout))
        return train, heldout


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """A byte-level BPE, trained on the first `documents` paragraphs; numbers are cut in groups of `digits`."""

    vocab_size: int
    documents: int = 20000
    digits: int = 2


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """AdamW; the learning rate warms up linearly and then falls as a cosine to `final_fraction` of its peak."""

    learning_rate: float
    warmup_steps: int = 200
    final_fraction: float = 0.05
    weight_decay: float = 0.1
    beta2: float = 0.98
    clip_norm: float = 1.0
    answer_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """`steps` batches of `rows` texts of `length` tokens; `retrieval` is the share of rows that are retrieval
    documents, at most `max_keys` needles in each."""

    steps: int
    rows: int
    length: int
    retrieval: float
    max_keys: int = 4


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the trained weights, apart from library versions and the machine's rounding."""

    name: str
    seed: int
    data: DataSpec
    tokenizer: TokenizerSpec
    model: dict[str, Any]
    optimizer: OptimizerSpec
    stages: tuple[Stage, ...]
    log_every: int = 50
    save_every: int = 500
    about: str = ""
    text: str = field(default="", repr=False)

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file: a run is only continued by the recipe that began it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def stage_of(self, step: int) -> Stage:
        """The stage that holds a step, counted from 0."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        raise IndexError("step lies behind the last stage")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: the file is missing, is not YAML, has an unknown field or lacks one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot read the recipe ({error.strerror})") from error
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from error
    raw = dict(_mapping(raw, path, "the file"))
    raw["data"] = _build(DataSpec, raw.get("data"), path, "data")
    raw["tokenizer"] = _build(TokenizerSpec, raw.get("tokenizer"), path, "tokenizer")
    raw["optimizer"] = _build(OptimizerSpec, raw.get("optimizer"), path, "optimizer")
    stages = raw.get("stages")
    if not isinstance(stages, list) or not stages:
        raise RecipeError(f"{path}: stages must be a list with at least one stage")
    raw["stages"] = tuple(_build(Stage, stage, path, f"stages[{i}]") for i, stage in enumerate(stages))
    return _build(Recipe, {**raw, "text": text}, path, "the recipe")


def _mapping(value: object, path: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path}: {where} must be a mapping of fields, got {type(value).__name__}")
    return value


def _build(kind: type[T], value: object, path: Path, where: str) -> T:
    mapping = _mapping(value, path, where)
    allowed = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(mapping) - allowed)
    if unknown:
        raise RecipeError(f"{path}: {where} has no field {unknown[0]!r}; there are: {', '.join(sorted(allowed))}")
    try:
        return kind(**mapping)
    except TypeError as error:
        raise RecipeError(f"{path}: {where}: {error}") from error
