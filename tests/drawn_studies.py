"""A study of small models with made-up results, and its picture laid out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gdn2.train.synthetic.spec import read_tasks
from harness.analysis.picture_data import PictureData
from harness.show.plots.look import Look
from harness.show.plots.registry import STUDIES
from harness.show.plots.sheet import drawn_as
from harness.study.curves import StudyRow
from harness.study.plan import load_study
from harness.study.results import StudyResults

ROWS = {"length": 64, "rows": 32, "vocab_size": 128}
TESTS = [{**ROWS, "keys": 8}, {**ROWS, "keys": 4, "writes": 16}, {**ROWS, "keys": 2}, {**ROWS, "keys": 4}]
LABELS = ("8 pairs @64", "4 keys, 16 writes @64", "2 pairs @64", "4 pairs @64")
STUDY: dict[str, Any] = {
    "name": "mini",
    "base": {"vocab_size": 128, "hidden_size": 16, "num_hidden_layers": 1, "num_heads": 1, "head_dim": 8,
             "intermediate_size": 0},
    "models": {"GDN-2": {"layers": "gdn2"}, "KDA, named in full": {"layers": "kda"}, "GLA": {"layers": "gla"}},
    "train": [{**ROWS, "keys": 2}],
    "tests": TESTS,
    "training": {"steps": 4, "batch_rows": 16, "validate_every": 2, "validation_rows": 8},
    "rates": [0.01],
    "seeds": {"count": 3, "choose": 1},
}  # fmt: skip


def written(folder: Path, **changes: Any) -> str:
    path = folder / "mini.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False), encoding="utf-8")
    return str(path)


def results_of(folder: Path, seeds: dict[str, Sequence[float | None]], **changes: Any) -> StudyResults:
    """A study with these seeds of each model: its accuracy at the first test, less at the others; None failed."""
    study = load_study(written(folder, **changes))
    results = StudyResults(study, folder / "out" / "mini", print)
    labels = [test.label for test in read_tasks(study.shared["tests"], study.path, "tests")]
    for model, values in seeds.items():
        for seed, value in enumerate(values, 1):
            run = results.grid[model, 0.01, seed]
            result: dict[str, Any] = {"identity": run.identity, "failed": "the loss is no number"}
            if value is not None:
                tests = [{"label": label, "accuracy": value - 0.1 * i} for i, label in enumerate(labels)]
                sizes = {"parameters": 10, "parameters_without_embedding": 5, "state_floats": [64], "seconds": 1.0}
                result = {"identity": run.identity, "curve": [{"validation_loss": 1.0}], "tests": tests, **sizes}
                result["converged"] = True
            results.found[run.identity] = result
            results.folder.mkdir(parents=True, exist_ok=True)
            (results.folder / f"{run.identity}.json").write_text(json.dumps(result), encoding="utf-8")
    return results


SEEDS: dict[str, Sequence[float | None]] = {"GDN-2": (0.7, 0.8, 0.9), "KDA, named in full": (0.5,)}


def settled(data: PictureData[StudyRow], look: Look) -> Any:
    with drawn_as(look):
        sheet = STUDIES["study"].draw(data, look)
        sheet.settle()
    return sheet
