"""A training recipe: one YAML file that fixes a checkpoint, parsed into dataclasses that refuse unknown fields."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basis.errors import FileError
from basis.files import read_text
from gdn2.train.fields import RecipeError, as_mapping, build, choice, flag, number, parse_mapping, refuse_idle

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MANY = 10**9
MAX_BATCH_TOKENS = 1 << 24
MAX_LAYERS = 1000
MADE_BY_THE_TOKENIZER = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where text comes from: JSON lines with "title" and "text".

    In both, `~` and environment variables are expanded; the variable GDN2_DATA defaults to ~/.cache/gdn2/data.

    Attributes:
        train: the file that is trained on.
        heldout: the file that the card's figures come from.
    """

    train: str
    heldout: str

    def paths(self) -> tuple[Path, Path]:
        """The files of training and of held-out text, expanded."""
        os.environ.setdefault("GDN2_DATA", str(Path.home() / ".cache" / "gdn2" / "data"))
        train, heldout = (Path(os.path.expandvars(Path(name).expanduser())) for name in (self.train, self.heldout))
        return train, heldout


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """A byte-level BPE, trained on the first paragraphs of the training text.

    Attributes:
        vocab_size: number of tokens: at least the bytes and the end of text, at most what 16 bits tell apart.
        documents: paragraphs that it is trained on.
        digits: numbers are cut in groups of at most so many digits.
    """

    vocab_size: int = number(257, 1 << 16)
    documents: int = number(1, MANY, 20000)
    digits: int = number(1, 4, 2)


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """AdamW, or Muon for matrices and AdamW for the rest; the rate warms up linearly and falls as half a cosine.

    Attributes:
        name: "adamw" or "muon".
        learning_rate: its peak.
        warmup_steps: steps up to the peak; the cosine begins with the first of them.
        warmup_share: the same as a share of all steps; the cosine then begins behind them. One of the two is given.
        final_fraction: share of the peak at the last step.
        weight_decay: of matrices.
        beta2: decay of the second moment.
        clip_norm: the longest gradient.
        answer_weight: weight of the answers' mean loss beside the text's.
    """

    name: str = choice("adamw", "muon")
    learning_rate: float = number(0, 10, above=True)
    warmup_steps: int = number(0, MANY, 200)
    warmup_share: float | None = number(0, 1, None)
    final_fraction: float = number(0, 1, 0.05)
    weight_decay: float = number(0, 10, 0.1)
    beta2: float = number(0, 0.999999, 0.98)
    clip_norm: float = number(0, 1e6, 1.0, above=True)
    answer_weight: float = number(0, 1e6, 1.0)


@dataclass(frozen=True, kw_only=True)
class InitialSpec:
    """Fresh weights, where they are not as the model's configuration has them.

    Attributes:
        xavier_gain: linear layers of blocks are uniform with this gain (Glorot and Bengio, 2010); None: normal with
            the model's `initializer_range`, as all other matrices are.
        scaled_residuals: whether the last matrix of each mixer and MLP is divided by the square root of their number
            (GPT-2), so that the residual stream does not grow with depth.
    """

    xavier_gain: float | None = number(0, 1e3, None, above=True)
    scaled_residuals: bool = flag()


@dataclass(frozen=True, kw_only=True)
class ComputeSpec:
    """How steps are computed. Only `precision` and `residual` change more than the rounding of sums.

    Attributes:
        device: "cpu", "cuda", "cuda:1", or "auto": a GPU if there is one. Of several processes, "cuda" is one each.
        precision: "float32"; or "bfloat16", for activations and products.
        residual: of what is between the blocks, which is summed up over all layers; "bfloat16" is faster and needs less
            memory, where that is the precision.
        accumulation: in how many parts the rows of a step go through the model, one after the other.
        checkpointing: whether blocks keep nothing but their input, and are computed again going back.
        drawing_processes: how many processes draw batches; 0: a thread of the training does.
        sharded: whether weights, gradients and moments are cut over the processes; else each has all of them.
    """

    device: str = "auto"
    precision: str = choice("float32", "bfloat16")
    residual: str = choice("float32", "bfloat16")
    accumulation: int = number(1, 1 << 16, 1)
    checkpointing: bool = flag()
    drawing_processes: int = number(0, 64, 0)
    sharded: bool = flag()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Batches of one size.

    Attributes:
        steps: number of batches.
        rows: texts in a batch.
        length: tokens of a text.
        retrieval: share of the rows that are retrieval documents.
        max_keys: needles in such a document, at most.
        wording: of these documents: "ruler", half of them RULER's own; or "own", none an evaluation's, with facts that
            are rewritten, several documents a row.
    """

    steps: int = number(1, MANY)
    rows: int = number(1, 1 << 16)
    length: int = number(1, 1 << 20)
    retrieval: float = number(0, 1)
    max_keys: int = number(1, 1000, 4)
    wording: str = choice("ruler", "own")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the trained weights, apart from library versions and the machine's rounding.

    Attributes:
        name: of the checkpoint; letters, digits, ".", "_" and "-", because folders are named by it.
        seed: of the weights and of every batch; 64 bits.
        data: the text.
        tokenizer: how it becomes tokens.
        model: fields of GDN2Config, without those that the tokenizer decides.
        optimizer: how steps are taken.
        stages: the batches.
        initial: fresh weights.
        compute: where and how steps are computed.
        log_every: steps between two lines of the log.
        save_every: steps between two saves; the first step and the clock save as well.
        about: a paragraph for the card.
        path: the file.
        text: the content of the file.
    """

    name: str
    seed: int = number(-(1 << 63), (1 << 64) - 1)
    data: DataSpec
    tokenizer: TokenizerSpec
    model: dict[str, Any]
    optimizer: OptimizerSpec
    stages: tuple[Stage, ...]
    initial: InitialSpec = field(default=InitialSpec())
    compute: ComputeSpec = field(default=ComputeSpec())
    log_every: int = number(1, MANY, 50)
    save_every: int = number(1, MANY, 500)
    about: str = ""
    path: Path = field(default=Path(), repr=False)
    text: str = field(default="", repr=False)

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file: a run is only continued by the recipe that began it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def stage_of(self, step: int) -> Stage:
        """Find the stage that holds a step.

        Args:
            step: counted from 0.

        Returns:
            The stage.

        Raises:
            IndexError: the step lies behind the last stage.
        """
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        raise IndexError("step lies behind the last stage")

    def error(self, message: str) -> RecipeError:
        """An error about this recipe, which begins with its file."""
        return RecipeError(f"{self.path}: {message}")


SECTIONS: dict[str, type] = {
    "data": DataSpec, "tokenizer": TokenizerSpec, "optimizer": OptimizerSpec, "initial": InitialSpec,
    "compute": ComputeSpec,
}  # fmt: skip
OPTIONAL = (InitialSpec, ComputeSpec)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file, UTF-8.

    Returns:
        The recipe, every field checked that can be without its data.

    Raises:
        RecipeError: the file is missing, is not YAML, has an unknown field or lacks one, or a field has a value that
            it cannot have.
    """
    try:
        return parse_recipe(read_text(path), path)
    except FileError as error:
        raise RecipeError(str(error)) from error


def parse_recipe(text: str, path: Path) -> Recipe:
    """Make a recipe of the text of one; `path` is the file that messages name.

    Raises:
        RecipeError: as `load_recipe`.
    """
    raw = parse_mapping(text, path)
    given: dict[str, Any] = {"path": path, "text": text}
    for name, kind in SECTIONS.items():
        section = raw.pop(name, {} if kind in OPTIONAL else None)
        given[name] = build(kind, section, path, name)
        if isinstance(section, dict) and {"warmup_share", "warmup_steps"} <= section.keys():
            raise RecipeError(f"{path}: optimizer has both warmup_share and warmup_steps; keep one of them")
    given["model"] = _model(raw.pop("model", None), path)
    given["stages"] = _stages(raw.pop("stages", None), path)
    recipe = build(Recipe, raw, path, "", given)
    if not NAME.fullmatch(recipe.name):
        raise recipe.error(
            f"name must be letters, digits, '.', '_' and '-', at most 100, for folders are named by it; "
            f"got {recipe.name[:60]!r}"
        )
    train, heldout = recipe.data.paths()
    if os.path.realpath(train) == os.path.realpath(heldout):
        raise recipe.error(
            "data.heldout is the file of data.train; the card's figures need text that is not trained on"
        )
    return recipe


def _model(value: object, path: Path) -> dict[str, Any]:
    """The fields of the model; the config itself checks what they mean."""
    model = as_mapping(value, path, "model")
    for name in MADE_BY_THE_TOKENIZER:
        if name in model:
            raise RecipeError(f"{path}: model.{name} follows from the tokenizer; remove it")
    refuse_idle(model, path, "model")
    layers = model.get("num_hidden_layers")
    if isinstance(layers, int) and layers > MAX_LAYERS:
        raise RecipeError(f"{path}: model.num_hidden_layers must be at most {MAX_LAYERS}")
    return model


def _stages(value: object, path: Path) -> tuple[Stage, ...]:
    if not isinstance(value, list) or not value:
        raise RecipeError(f"{path}: stages must be a list with at least one stage")
    stages = tuple(build(Stage, stage, path, f"stages[{index}]") for index, stage in enumerate(value))
    for index, stage in enumerate(stages):
        if stage.rows * stage.length > MAX_BATCH_TOKENS:
            raise RecipeError(
                f"{path}: stages[{index}]: {stage.rows:,} rows of length {stage.length:,} are over "
                f"{MAX_BATCH_TOKENS:,} tokens a step; choose smaller ones"
            )
    return stages
