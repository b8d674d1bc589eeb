"""The manifest of staged data: whatever it holds is understood or named, and files that it does not know are said."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fakes import small_checkpoint

from harness.runs.listener import Silence
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run, with_native_checkpoint
from harness.staging.stage import stage
from tasks import data

GOOD = {"sha256": "0" * 64, "bytes": 5, "source": "hub", "from": "x", "date": "2026-01-01"}


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest in a data folder of its own, with essays beside it."""
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    (tmp_path / "essays.json").write_text(json.dumps({"text": "A sentence of many. " * 500}))
    return tmp_path / "manifest.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"schema": 1, "files": {"a": {"sha', "not JSON"),
        ("[]", "no mapping 'files'"),
        ('{"files": []}', "no mapping 'files'"),
        ('{"files": {"a.json": 5}}', "files.a.json must be a mapping, got 5"),
        ('{"files": {"a.json": {}}}', "files.a.json.sha256 is missing or of another type"),
        (json.dumps({"files": {"a.json": {**GOOD, "sha256": "abc"}}}), "sha256 is no SHA-256, got 'abc'"),
        (json.dumps({"files": {"a.json": {**GOOD, "bytes": "5"}}}), "a.json.bytes is missing or of another type"),
        (json.dumps({"files": {"a.json": {**GOOD, "date": 5}}}), "a.json.date is missing or of another type"),
        (json.dumps({"files": {"a.json": {**GOOD, "revision": []}}}), "a.json.revision is missing or of another type"),
        ("[" * 100_000, "nested too deeply"),
        ('{"files": {"\\ud800": {}}}', "half a character"),
    ],
)
def test_what_is_no_manifest_is_named_with_the_way_out(manifest: Path, text: str, message: str) -> None:
    manifest.write_text(text)
    for call in (data.read_manifest, lambda: stage(["essays"]), lambda: stage(["essays"], like=manifest)):
        with pytest.raises(data.UserError) as error:
            call()
        assert str(manifest) in str(error.value)
        assert message in str(error.value)
    with pytest.raises(data.DataNotStaged, match=r"delete it and run `python run_eval.py stage`"):
        data.read_manifest()


def test_a_pipe_is_no_manifest(manifest: Path) -> None:
    os.mkfifo(manifest)
    with pytest.raises(data.DataNotStaged, match="no regular file"):
        data.read_manifest()


def test_a_run_says_which_data_nothing_vouches_for(manifest: Path, tmp_path: Path) -> None:
    checkpoint = small_checkpoint(tmp_path / "small")
    options = RunOptions(checkpoint=str(checkpoint), tasks=("niah_single_2@512",), output=tmp_path / "runs")
    notes: list[str] = []

    class Notes(Silence):
        def note(self, line: str) -> None:
            notes.append(line)

    with_native_checkpoint(resolve_run(options), Notes())
    (said,) = [note for note in notes if "essays.json" in note]
    assert f"not in {manifest}" in said
    assert "`python run_eval.py stage essays` checks them" in said
    entry = {**GOOD, "sha256": data.file_sha256(tmp_path / "essays.json")}
    manifest.write_text(json.dumps({"schema": 1, "files": {"essays.json": entry}}))
    assert data.unverified(["essays.json"]) == []


def test_declared_bytes_need_no_manifest(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not manifest.exists()
    declared = {"files": {"essays.json": {"sha256": data.file_sha256(tmp_path / "essays.json")}}}
    monkeypatch.setattr(data, "sources", lambda: declared)
    assert data.unverified(["essays.json"]) == []


@pytest.mark.usefixtures("manifest")
@pytest.mark.parametrize("content", ["{}", "[]", '{"data": [{}]}', "[[", '{"data": 5}', "5", "null"])
def test_a_staged_file_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    for name in ("squad", "hotpotqa"):
        (tmp_path / f"{name}.json").write_text(content)
    (tmp_path / "wiki_heldout.jsonl").write_text(content)
    (tmp_path / "essays.json").write_text(content)
    for read in (data.squad_items, data.essays_text, data.wiki_heldout):
        with pytest.raises(data.DataNotStaged, match=r"damaged|is not an object"):
            read()
    if content not in ("{}", "[]"):
        with pytest.raises(data.DataNotStaged, match=r"hotpotqa\.json is damaged"):
            data.hotpotqa_items()
