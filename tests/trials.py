"""A small training on data of its own, for the tests of what the trainer refuses and keeps."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gdn2.train.__main__ import main

RECIPE: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "data": {"train": "DATA/train.jsonl", "heldout": "DATA/heldout.jsonl"},
    "tokenizer": {"vocab_size": 300, "documents": 5, "digits": 1},
    "model": {"hidden_size": 16, "num_hidden_layers": 1, "num_heads": 1, "head_dim": 8, "intermediate_size": 16},
    "optimizer": {"learning_rate": 0.01, "warmup_steps": 1},
    "stages": [{"steps": 2, "rows": 2, "length": 64, "retrieval": 0.5, "max_keys": 1}],
    "log_every": 1,
    "save_every": 500,
}
SMALLEST: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_heads": 1,
    "head_dim": 8,
    "intermediate_size": 0,
}
"""The configuration of the smallest model that learns synthetic tasks, but for its layers."""
LINE = json.dumps({"title": "t", "text": "the river near that valley runs toward north " * 6}) + "\n"


class Trial:
    """A small recipe with its data in a folder, and the command line over it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.recipe = copy.deepcopy(RECIPE)
        self.recipe["data"] = {name: str(folder / f"{name}.jsonl") for name in ("train", "heldout")}
        for name in ("train", "heldout"):
            (folder / f"{name}.jsonl").write_text(LINE * 12)
        self.file, self.out, self.work = folder / "recipe.yaml", folder / "out", folder / "work"

    def run(self, text: str | bytes | None = None, *more: str) -> int:
        if text is None:
            text = yaml.safe_dump(self.recipe, sort_keys=False)
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return main([str(self.file), "--out", str(self.out), "--work", str(self.work), *more])

    def refused(self, text: str | bytes | None = None, *more: str) -> str:
        """The one line of a refusal."""
        assert self.run(text, *more) == 2
        errors = self.capsys.readouterr().err.splitlines()
        assert len(errors) == 1, errors
        assert errors[0].startswith("error: ")
        return errors[0]
