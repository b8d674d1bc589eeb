"""The state of a run on disk, from which the same command goes on.

A run's work folder holds state.pt and log.jsonl. A state is written beside the last one and then takes its name, so a
machine that stops leaves the one or the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from basis.errors import FileError, reason
from basis.files import replacing, write_atomically
from gdn2.model import GDN2ForCausalLM
from gdn2.train.fields import RecipeError
from gdn2.train.optimizers import Several
from gdn2.train.place import Place
from gdn2.train.recipe import Recipe
from gdn2.train.sharing import cut_like, whole

STATE_FILE = "state.pt"
LOG_FIELDS = ("step", "length", "text_loss", "answer_loss", "learning_rate", "tokens_per_second", "seconds")
MEASURED = ("utilisation", "memory_gib")  # fields that may be null, and that states of before do not have


@dataclass
class Sums:
    """What was gathered since the last line of the log.

    Attributes:
        text: sum of the steps' text losses.
        answer: sum of the steps' answer losses.
        text_steps: how many steps had text.
        answer_steps: how many had answers.
        tokens: tokens read.
        seconds: time taken.
    """

    text: float = 0.0
    answer: float = 0.0
    text_steps: int = 0
    answer_steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def add(self, losses: list[float], targets: tuple[int, int], tokens: int, seconds: float) -> None:
        """Add a step: its mean losses, and of how many targets, of text and of answers."""
        self.text += losses[0]
        self.answer += losses[1]
        self.text_steps += targets[0] > 0
        self.answer_steps += targets[1] > 0
        self.tokens += tokens
        self.seconds += seconds


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps taken.
        log: the lines of the log, each with LOG_FIELDS and MEASURED.
        sums: what the next line will be made of.
    """

    step: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)


class WorkFolder:
    """Saves and restores one run.

    Attributes:
        folder: where.
        recipe: the run's recipe.
        corpus: the fingerprint of its text as tokens.
        place: which process this is; the first one writes, all read.
    """

    def __init__(self, folder: Path, recipe: Recipe, corpus: str, place: Place | None = None) -> None:
        self.folder, self.recipe, self.corpus, self.place = folder, recipe, corpus, place or Place()

    def save(self, model: GDN2ForCausalLM, optimizer: Several, progress: Progress) -> None:
        """Write the state, then the log; of several processes all must call it.

        Raises:
            RecipeError: the disk is full or refuses; the last save is as it was.
        """
        state = {
            "recipe": self.recipe.fingerprint,
            "corpus": self.corpus,
            "model": whole(model.state_dict()),
            "optimizer": whole(optimizer.state_dict()),
            "step": progress.step,
            "log": progress.log,
            "sums": vars(progress.sums),
        }
        if not self.place.is_first:
            return
        path = self.folder / STATE_FILE
        try:
            with replacing(path) as temporary:
                torch.save(state, temporary)
            lines = "".join(json.dumps(entry) + "\n" for entry in progress.log)
            write_atomically(self.folder / "log.jsonl", lines)
        except (OSError, RuntimeError, FileError) as error:
            raise RecipeError(
                f"{path}: step {progress.step} cannot be saved ({reason(error)}); make room, and the same command goes "
                f"on from the last save"
            ) from error

    def restore(self, model: GDN2ForCausalLM, optimizer: Several) -> Progress:
        """Bring model and optimizer to where the run was saved, by however many processes on whichever device.

        Nothing in the file is executed.

        Returns:
            How far that is; nothing at all if nothing is saved.

        Raises:
            RecipeError: the state is of another recipe or another text, or is damaged; or processes find different
                ones.
        """
        path = self.folder / STATE_FILE
        progress = self._read(path, model, optimizer) if path.exists() else Progress()
        self.place.agree(progress.step, f"{path}: not the saved state of process 0; --work must be a folder of a disk "
                         "that all machines share")  # fmt: skip
        return progress

    def _read(self, path: Path, model: GDN2ForCausalLM, optimizer: Several) -> Progress:
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            recipe, corpus = saved["recipe"], saved["corpus"]
        except Exception as error:  # whatever a damaged file makes of the reader
            raise self._damaged(error) from error
        if recipe != self.recipe.fingerprint:
            raise RecipeError(f"{path} belongs to another recipe; choose another folder with --work")
        if corpus != self.corpus:
            raise RecipeError(f"{path} was trained on another text (data.train); choose another folder with --work")
        try:
            progress = _progress(saved, self.recipe.total_steps)
            weights = model.state_dict()
            model.load_state_dict({name: cut_like(x, weights.get(name, x)) for name, x in saved["model"].items()})
            optimizer.load_state_dict(saved["optimizer"])
        except Exception as error:
            raise self._damaged(error) from error
        return progress

    def _damaged(self, error: Exception) -> RecipeError:
        return RecipeError(
            f"{self.folder / STATE_FILE}: damaged, or no state of this trainer ({reason(error)[:120]}); remove it "
            f"to begin anew, or choose another folder with --work"
        )


def _progress(saved: dict[str, Any], total_steps: int) -> Progress:
    step, log = saved["step"], saved["log"]
    if not isinstance(step, int) or not 0 < step <= total_steps:
        raise ValueError(f"step {step!r} of {total_steps}")
    for entry in log:
        measured = [entry.get(name) for name in MEASURED]
        if set(entry) - set(MEASURED) != set(LOG_FIELDS) or not all(
            isinstance(value, int | float) for value in (*(entry[name] for name in LOG_FIELDS), *filter(None, measured))
        ):
            raise ValueError("a line of its log lacks a number")
    sums = {name: value + 0 for name, value in saved["sums"].items()}
    if (steps := sums.pop("steps", None)) is not None:  # of before, when a mean was of all steps
        sums = {"text_steps": steps, "answer_steps": steps, **sums}
    if sums.keys() != vars(Sums()).keys():
        raise ValueError(f"its sums are {', '.join(sums) or 'none'}")
    return Progress(step, list(log), Sums(**sums))
