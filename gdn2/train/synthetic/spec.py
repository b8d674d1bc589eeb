"""One run: a model, a task, and how it is trained. What changes its result is in its identity."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from basis.names import must_be_one_of
from gdn2.config import GDN2Config
from gdn2.train.fields import RecipeError, as_mapping, build, number, refuse_idle
from gdn2.train.synthetic.languages import Language
from gdn2.train.synthetic.recall import Recall

Task = Recall | Language
MANY = 10**9
PRECISIONS = ("float32", "bfloat16")
LOOKS = 5
"""Looks at the validation loss, at least, from which is seen whether it was flat at the end."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained: AdamW, a linear warm-up, half a cosine down to nothing.

    Attributes:
        steps: batches.
        batch_rows: rows of a batch, all of one kind.
        warmup: share of the steps up to the peak of the rate.
        weight_decay: of matrices, not of the embedding.
        clip_norm: the longest gradient.
        validate_every: steps between two looks at the validation rows.
        validation_rows: of each kind.
        precision: of activations, `float32` or `bfloat16` (PyTorch's autocast); weights are float32.
    """

    steps: int = number(1, MANY)
    batch_rows: int = number(1, 1 << 20, 256)
    warmup: float = number(0, 1, 0.1)
    weight_decay: float = number(0, 10, 0.1)
    clip_norm: float = number(0, 1e6, 1.0, above=True)
    validate_every: int = number(1, MANY, 1000)
    validation_rows: int = number(1, 10**6, 256)
    precision: str = "float32"

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.type == "float":  # 1 and 1.0 train alike, so they are one identity
                object.__setattr__(self, item.name, float(getattr(self, item.name)))


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        model: its name in tables.
        config: fields of `GDN2Config`.
        train: kinds of rows, each drawn once; a batch has rows of one kind, as often as the kind has rows.
        tests: kinds of rows that the trained model is asked.
        training: steps and batches.
        learning_rate: the peak.
        seed: of the initial weights and of the order of the batches; the rows are the same for every seed.
    """

    CODE: ClassVar[int] = 1
    """To be raised when the same fields come to mean another result."""

    model: str
    config: Mapping[str, Any]
    train: tuple[Task, ...]
    tests: tuple[Task, ...]
    training: Training
    learning_rate: float = number(0, 10, above=True)
    seed: int = number(0, (1 << 63) - 1)

    @property
    def identity(self) -> str:
        """16 digits of the SHA-256 of all that decides its result; the model's name is not among it."""
        plain = {name: value for name, value in self.to_dict().items() if name != "model"}
        text = json.dumps({"code": self.CODE, **plain}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain


def read_run(raw: object, path: Path) -> Run:
    """Make a run of what JSON or YAML holds.

    Args:
        raw: its fields.
        path: the file, for messages.

    Raises:
        RecipeError: a field that is unknown, missing, or has a value that it cannot have.
    """
    fields = as_mapping(raw, path, "")
    config = as_mapping(fields.pop("config", None), path, "config")
    known = check_config(config, path, "config").vocab_size
    refuse_idle(config, path, "config")
    given: dict[str, Any] = {
        "config": config,
        "train": read_tasks(fields.pop("train", None), path, "train"),
        "tests": read_tasks(fields.pop("tests", None), path, "tests"),
        "training": build(Training, fields.pop("training", None), path, "training"),
    }
    if given["training"].precision not in PRECISIONS:
        said = must_be_one_of(PRECISIONS, given["training"].precision)
        raise RecipeError(f"{path}: training.precision {said}")
    for index, task in enumerate(given["train"]):
        if task.rows < given["training"].batch_rows:
            raise RecipeError(
                f"{path}: train[{index}].rows: {task.rows} are fewer than training.batch_rows "
                f"({given['training'].batch_rows})"
            )
    for part in ("train", "tests"):
        for index, task in enumerate(given[part]):
            if task.tokens > known:
                raise RecipeError(
                    f"{path}: {part}[{index}] has {task.tokens:,} tokens and the model a vocab_size of {known:,}; "
                    "choose a larger one for it, or a smaller vocab_size for the rows"
                )
    return build(Run, fields, path, "", given)


def read_tasks(raw: object, path: Path, where: str) -> tuple[Task, ...]:
    """Kinds of rows.

    Args:
        raw: a list of mappings; one with `language` is a language, any other a recall task.
        path: the file, for messages.
        where: the place in the file.

    Raises:
        RecipeError: no list, an empty one, or a kind of rows that cannot be.
    """
    if not isinstance(raw, list) or not raw:
        raise RecipeError(f"{path}: {where} must be a list with at least one kind of rows")
    tasks: list[Task] = []
    for index, item in enumerate(raw):
        place = f"{where}[{index}]"
        kind: type[Task] = Language if isinstance(item, Mapping) and "language" in item else Recall
        task = build(kind, item, path, place)
        if (problem := task.problem()) is not None:
            raise RecipeError(f"{path}: {place}: {problem}")
        tasks.append(task)
    return tuple(tasks)


def check_config(fields: Mapping[str, Any], path: Path, where: str) -> GDN2Config:
    """The configuration that fields make.

    Raises:
        RecipeError: they make none; the message is the configuration's own.
    """
    try:
        return GDN2Config(**fields)
    except (TypeError, ValueError, AttributeError) as error:  # the last one by fields that transformers reads
        raise RecipeError(f"{path}: {where}: {error}") from error
