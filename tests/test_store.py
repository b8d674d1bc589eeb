"""Records and result folders: whole or not there, never overwritten, never misread."""

import json
from pathlib import Path
from typing import Any

import pytest
from records import cell, record

from harness.errors import UserError
from harness.records.record import SCHEMA_VERSION, read_record
from harness.records.store import find_records, new_run_folder


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(text)
    return folder / "record.json"


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    original = record(cells=(cell(mean_fill=1.0), cell(length=None)))
    assert read_record(write(tmp_path, original.to_json())) == original


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, record(schema=SCHEMA_VERSION + 1).to_json())
    with pytest.raises(UserError, match="is newer than this version reads"):
        read_record(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("schema"), "field 'schema' is missing"),
        (lambda raw: raw.pop("cells"), "field 'cells' is missing"),
        (lambda raw: raw.update(extra=1), "unknown field 'extra'"),
        (lambda raw: raw.pop("model"), "field 'model' is missing"),
        (lambda raw: raw["cells"][0]["protocol"].pop("name"), r"cells\[0\]\.protocol: field 'name' is missing"),
        (lambda raw: raw["cells"][0]["scores"]["acc"].update(bad=1), r"cells\[0\]\.scores\.acc: unknown field 'bad'"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: Any, message: str) -> None:
    raw = json.loads(record(cells=(cell(),)).to_json())
    change(raw)
    with pytest.raises(UserError, match=message):
        read_record(write(tmp_path, json.dumps(raw)))


def test_a_half_written_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"record\.json:\d+: not JSON"):
        read_record(write(tmp_path, record().to_json()[:200]))


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_run_folder(tmp_path, "run") as (folder, _):  # noqa: PT012
        (folder / "half").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_run_folder(tmp_path, "run") as (folder, publish):
        (folder / "record.json").write_text(record().to_json())
        assert find_records([tmp_path]) == []
        place = publish()
    assert place == tmp_path / "run"
    assert [path for path, _ in find_records([tmp_path])] == [place / "record.json"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    places = []
    for text in ("first", "second"):
        with new_run_folder(tmp_path, "run") as (folder, publish):
            (folder / "file").write_text(text)
            places.append(publish())
    assert [place.name for place in places] == ["run", "run_2"]
    assert [(place / "file").read_text() for place in places] == ["first", "second"]


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write there .*--output"),
        new_run_folder(tmp_path / "file" / "below", "run"),
    ):
        pass


def test_missing_folders_of_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder of results"):
        find_records([tmp_path / "nothing"])
