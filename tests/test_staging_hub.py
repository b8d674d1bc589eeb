"""Staging with the hub's real clients, against a hub in miniature on a local port; then everything with it gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from fakehub import commit_of, serve
from task_data import train_tokenizer

from harness.errors import UserError
from harness.staging.fetching import _parquet_files
from harness.staging.offline import verify
from harness.staging.stage import stage, stage_tokenizer

ROOT = Path(__file__).resolve().parent.parent
PIQA = [{"goal": f"goal {i}", "sol1": "one", "sol2": "two", "label": i % 2} for i in range(5)]
SIQA: list[dict[str, object]] = [
    {"context": "c", "question": "q", "answerA": "a", "answerB": "b", "answerC": "c", "label": "2"}
]
CARD = b"""---
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: validation, path: data/validation-*}
---
"""


def parquet(rows: list[dict[str, object]], folder: Path) -> bytes:
    datasets.Dataset.from_list(rows).to_parquet(folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


def test_a_suite_is_staged_from_the_hub_and_then_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data files of a repository, the conversion of one with a script, and a tokenizer; each at its commit."""
    train_tokenizer("metaspace").save_pretrained(tmp_path / "tokenizer")
    tokenizer = {file.name: file.read_bytes() for file in (tmp_path / "tokenizer").iterdir()}
    splits = {"train": PIQA[:1], "validation": PIQA}
    piqa = {f"data/{name}-00000-of-00001.parquet": parquet(rows, tmp_path) for name, rows in splits.items()}
    repos = {
        "baber/piqa": {"main": {"README.md": CARD, **piqa}},
        "lighteval/siqa": {
            "main": {"siqa.py": b"raise SystemExit\n"},
            "refs/convert/parquet": {"default/validation/0000.parquet": parquet(SIQA, tmp_path)},
        },
        "some/model": {"main": {**tokenizer, "model.safetensors": b"weights that nobody asked for"}},
    }
    (tmp_path / "mine.yaml").write_text(
        "suite: mine\ncolumns:\n"
        "  - {task: piqa, metric: acc, label: acc, group: P}\n"
        "  - {task: social_iqa, metric: acc, label: acc, group: S}\n"
    )
    env = {**os.environ, "GDN2_DATA": str(tmp_path / "data"), "HF_HOME": str(tmp_path / "hf"), "COLUMNS": "200"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}

    with serve(repos) as (address, requests):
        env["HF_ENDPOINT"] = address
        command = ["run_eval.py", "stage", str(tmp_path / "mine.yaml"), "--source", "hub", "--tokenizer", "some/model"]
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not any("safetensors" in request for request in requests)
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())["files"]
    assert [json.loads(line) for line in (tmp_path / "data" / "piqa.jsonl").read_text().splitlines()] == PIQA
    assert manifest["piqa.jsonl"]["revision"] == commit_of("baber/piqa", "main", repos["baber/piqa"]["main"])
    assert manifest["social_iqa.jsonl"]["route"] == "refs/convert/parquet"
    assert manifest["social_iqa.jsonl"]["rows"] == 1
    commit = commit_of("some/model", "main", repos["some/model"]["main"])
    assert manifest["tokenizers/some--model/tokenizer.json"]["revision"] == commit

    # The server is gone, and this process never knew it.
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    checks = verify([str(tmp_path / "mine.yaml")], "some/model")
    assert [(check.name, check.passed) for check in checks] == [
        ("piqa.jsonl", True),
        ("social_iqa.jsonl", True),
        ("gdn2_piqa", True),
        ("gdn2_social_iqa", True),
    ]
    assert not any(file.fetched for file in [*stage([str(tmp_path / "mine.yaml")]), *stage_tokenizer("some/model")])


@pytest.mark.parametrize("config", [None, "default", "plain_text"])
def test_the_files_of_a_split_are_found_in_the_conversion(config: str | None) -> None:
    listed = [".gitattributes", "default/train/0000.parquet", "default/validation/0001.parquet"]
    listed.append("default/validation/0000.parquet")
    hub = {"dataset": "a/b", "config": config, "split": "validation"}
    if config == "plain_text":
        with pytest.raises(UserError, match="has no plain_text/validation; configs there: default"):
            _parquet_files(hub, listed)
    else:
        assert _parquet_files(hub, listed) == ["default/validation/0000.parquet", "default/validation/0001.parquet"]
