"""A study of two tiny models, and results for it that nobody had to train for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from trials import SMALLEST

from harness.study.plan import load_study
from harness.study.results import StudyResults, Wanted

ROWS = {"length": 16, "keys": 2, "rows": 32, "vocab_size": 32}
STUDY: dict[str, Any] = {
    "name": "mini",
    "base": SMALLEST,
    "models": {"GDN-2": {"layers": "gdn2"}, "KDA": {"layers": "kda"}},
    "train": [ROWS],
    "tests": [ROWS, {**ROWS, "keys": 4}],
    "training": {"steps": 4, "batch_rows": 16, "validate_every": 2, "validation_rows": 8},
    "rates": [0.01, 0.001],
    "seeds": {"count": 3, "choose": 1},
}


def write(folder: Path, **changes: Any) -> Path:
    """Write the study to a folder, with some fields changed."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def finished(run: Wanted, loss: float, accuracies: tuple[float, float] = (0.5, 0.25)) -> dict[str, Any]:
    """The result of a run, as a worker writes it."""
    labels = ("2 pairs @16", "4 pairs @16")
    tests = [{"label": label, "accuracy": share} for label, share in zip(labels, accuracies, strict=True)]
    sizes = {"parameters": 10, "parameters_without_embedding": 5, "state_floats": [64], "seconds": 1.0}
    return {"identity": run.identity, "curve": [{"validation_loss": loss}], "tests": tests, "converged": True, **sizes}


def results_of(folder: Path, **changes: Any) -> StudyResults:
    """The results of the study, in a folder `out` beside its file."""
    return StudyResults(load_study(str(write(folder, **changes))), folder / "out", print)
