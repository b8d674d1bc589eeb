"""A study of models trained on text: what its file asks, asked once, and the table of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import records
import yaml

import gdn2.train.rivals.__main__ as rivals_command
from gdn2.checkpoints import fingerprint
from gdn2.train.rivals.plan import load_rivals
from harness.cli.main import main
from harness.errors import UserError
from harness.paths import ROOT
from harness.records.record import FILE_NAME
from harness.study.on_text import RESULTS, Asking, asking
from tasks.registry import load_suite

TINY = ROOT / "gdn2" / "zoo" / "gdn2-tiny"
SUITE = """suite: two
description: "Two cells"
columns:
  - {task: niah_single_1, lengths: [1024, 2048], metric: acc, samples: 3, group: S-NIAH-1}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of rivals that asks a suite of its own, which lies beside it."""
    raw = yaml.safe_load((ROOT / "gdn2" / "train" / "rivals" / "text-4m.yaml").read_text())
    (tmp_path / "two.yaml").write_text(SUITE)
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(raw | {"name": "few", "suite": "two.yaml"}))
    return path


def recorded(folder: Path, checkpoint: Path, name: str, *lengths: int, seed: int = 1, value: float = 0.5) -> None:
    """A record of a checkpoint's run of the suite, with these lengths."""
    info = records.model(name, checkpoint_sha256=fingerprint(checkpoint), training="r" * 16, training_seed=seed)
    cells = tuple(records.cell("niah_single_1", length, value) for length in lengths)
    place = folder / RESULTS / name / "x"
    place.mkdir(parents=True)
    record = records.record(name, cells, suite="two", model=info, run_id=f"{name}/x")
    (place / FILE_NAME).write_text(record.to_json())


def test_a_checkpoint_is_asked_until_there_is_a_record_of_it_with_all_cells(file: Path, tmp_path: Path) -> None:
    asks = asking(load_rivals(str(file)), tmp_path / "out")
    assert asks is not None
    command = asks(TINY, "cuda:1")
    assert command is not None
    assert command[4:] == [
        "harness.cli.main", "run", "gdn2/zoo/gdn2-tiny", "--suite", str(tmp_path / "two.yaml"), "--device", "cuda:1",
        "--output", str(tmp_path / "out" / RESULTS),
    ]  # fmt: skip
    recorded(tmp_path / "out", TINY, "half", 1024)
    assert asks(TINY, "cpu") is not None
    recorded(tmp_path / "out", TINY, "whole", 1024, 2048)
    assert asks(TINY, "cpu") is None
    other = shutil.copytree(TINY, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 4096}))
    command = asks(other, "cpu")
    assert command is not None
    assert command[6] == str(other)


def test_a_shipped_suite_is_asked_by_its_name_and_no_suite_asks_nothing(file: Path, tmp_path: Path) -> None:
    command = Asking(load_suite("rivals"), tmp_path)(TINY, "cpu")
    assert command is not None
    assert command[command.index("--suite") + 1] == "rivals"
    raw = yaml.safe_load(file.read_text())
    del raw["suite"]
    file.write_text(yaml.safe_dump(raw))
    assert asking(load_rivals(str(file)), tmp_path) is None


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainer's arguments, instead of a training."""
    calls: list[Any] = []

    def train(argv: list[str], then: Any = None, last: float | None = None) -> int:
        calls.append((argv, then, last))
        return 0

    monkeypatch.setattr(rivals_command, "main", train)
    return calls


def test_the_table_has_the_mean_of_each_trainings_seeds(
    file: Path, tmp_path: Path, trainer: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for seed, value in ((1, 0.55), (2, 0.75), (3, 0.95)):
        recorded(out, TINY, f"few-s{seed}", 1024, 2048, seed=seed, value=value)
    options = ["--devices", "cpu", "--share", "0.5", "--time-limit", "100s", "--output", str(out)]
    assert main(["study", str(file), *options, "--format", "markdown", "--table", str(tmp_path / "t.md")]) == 0
    (argv, then, last), (shown, said) = trainer[0], capsys.readouterr()
    assert "left out" not in said
    assert argv[argv.index("--within") + 1] == str(75 / 60)
    assert argv[argv.index("--share") + 1] == "0.5"
    assert isinstance(then, Asking)
    assert last is not None
    assert "few-s, mean" in shown
    assert "| S-NIAH-1 2K | 75.0 (25.3–100.0) |" in shown
    assert "few-s1" not in shown
    assert (tmp_path / "t.md").read_text() == shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["text-4m", "--retry"], "--retry is of studies whose failed runs are kept"),
        (["mqar-laptop", "--share", "0.5"], "--share is of models trained on text, which those of mqar-laptop are not"),
        (["mqar-laptop", "--prepared", "x"], "--prepared is of models trained on text"),
    ],
)
def test_options_of_the_other_kind_of_study_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_suite_that_cannot_be_asked_is_named_before_anything_is_trained(
    file: Path, tmp_path: Path, trainer: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(raw | {"suite": "no-such"}))
    assert main(["study", str(file), "--devices", "cpu"]) == 2
    file.write_text(yaml.safe_dump(raw | {"suite": "rivals"}))
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "empty"))
    assert main(["study", str(file), "--devices", "cpu"]) == 2
    assert not trainer
    with pytest.raises(UserError, match=r"essays\.json, squad\.json"):
        asking(load_rivals(str(file)), tmp_path)
