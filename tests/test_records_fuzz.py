"""Records as they should not be: whatever stands in one, it is read right or refused by file and field."""

from __future__ import annotations

import json
import os
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from records import cell, record
from table_checks import check_latex, check_markdown

from harness.cli import main as cli
from harness.errors import UserError
from harness.records.leaderboard import build_table
from harness.records.record import RunRecord, read_record
from harness.show.formats import FORMATS
from tasks.registry import load_suite

ODD: tuple[Any, ...] = (
    None, True, False, [], {}, [None], {"a": 1}, "", "text", "1", 0, -1, 2, 0.5, 1.5, 10**30, -(10**400), 1e308,
    float("nan"), float("inf"), "\x1b]0;title\x07", "a|b\n<script>", "[red]x[/red]", "\u202e", "9" * 5000,
)  # fmt: skip
ROUNDS = 400
SHIPPED = Path(__file__).with_name("data") / "record_of_schema_3.json"
"""The record of gdn2-tiny that an earlier version shipped."""


def short(raw: dict[str, Any]) -> dict[str, Any]:
    """Two cells are as good as fourteen."""
    return {**raw, "cells": raw["cells"][:2], "protocol": {**raw["protocol"], "tasks": raw["protocol"]["tasks"][:2]}}


FORMER = short(json.loads(SHIPPED.read_text(encoding="utf-8")))
PRESENT = json.loads(record(cells=(cell(mean_fill=1.0), cell(length=2048))).to_json())


def places(raw: Any, trail: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a record."""
    inside = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    return [trail, *(place for key, value in inside for place in places(value, (*trail, key)))]


def changed(raw: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The record with one or two values exchanged, removed or added."""
    raw = deepcopy(raw)
    for _ in range(rng.randint(1, 2)):
        *trail, last = rng.choice(places(raw)[1:])
        inside: Any = raw
        for step in trail:
            inside = inside[step]
        action = rng.choice(("exchange", "exchange", "remove", "add"))
        if action == "exchange":
            inside[last] = deepcopy(rng.choice(ODD))
        elif action == "remove":
            del inside[last]
        elif isinstance(inside, dict):
            inside["newer"] = deepcopy(rng.choice(ODD))
    return raw


def read(path: Path, raw: Any) -> RunRecord | None:
    path.write_text(json.dumps(raw), encoding="utf-8")
    try:
        return read_record(path)
    except UserError as error:
        said = str(error)
    assert said.startswith(str(path))
    assert "\n" not in said
    return None


@pytest.mark.parametrize("raw", [FORMER, PRESENT], ids=["schema 3", "present"])
def test_no_record_ends_in_anything_but_a_refusal_or_a_right_table(tmp_path: Path, raw: dict[str, Any]) -> None:
    rng, path = random.Random(0), tmp_path / "record.json"
    suite = load_suite("ruler_table3")
    taken: list[RunRecord] = []
    for _ in range(ROUNDS):
        found = read(path, changed(raw, rng))
        if found is None:
            continue
        assert read(path, json.loads(found.to_json())) == found
        taken.append(found)
    assert 0.05 < len(taken) / ROUNDS < 0.9
    table = build_table(suite, [(path, found) for found in taken], published=False)
    values = [entry.value for row in table.rows for entry in row.entries if entry]
    assert all(0 <= value <= 100 for value in values)
    for form in FORMATS.values():
        text = form.write(table)
        assert not {"\x1b", "\x07", "\x00", "\u202e"} & set(text)
    assert FORMATS["html"].write(table).count("<script>") == 1  # the page's own
    check_markdown(markdown := FORMATS["markdown"].write(table, intervals=True))
    assert "<script>" not in markdown
    check_latex(FORMATS["latex"].write(table, intervals=True))
    json.loads(FORMATS["json"].write(table))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("schema",), 0, "schema: must be a whole number from 1, got 0"),
        (("schema",), True, "schema: must be a whole number from 1, got true"),
        (("schema",), None, "field 'schema' is missing"),
        (("model",), {}, "model: field 'name' is missing"),
        (("model", "checkpoint_sha256"), None, "model.checkpoint_sha256: must be text, got null"),
        (("model", "checkpoint_sha256"), "", "model.checkpoint_sha256: must not be empty"),
        (("cells",), {}, "cells: must be a list, got fields"),
        (("cells", 0), 5, "cells[0]: must have fields"),
        (("cells", 1, "scores", "acc", "value"), None, "cells[1].scores.acc.value: must be a number, got null"),
        (("cells", 1, "scores", "acc", "value"), True, "cells[1].scores.acc.value: must be a number, got True"),
        (("cells", 1, "scores", "acc", "value"), float("nan"), "cells[1].scores.acc.value: must be a finite number"),
        (("cells", 1, "scores", "acc", "high"), 1e999, "cells[1].scores.acc.high: must be a finite number"),
        (("cells", 1, "scores", "acc", "value"), 2, "cells[1].scores.acc.value: a share lies between 0 and 1, got 2.0"),
        (("cells", 1, "scores", "acc", "n"), -1, "cells[1].scores.acc.n: must be at least 0, got -1"),
        (("cells", 1, "scores", "acc", "n"), 1.0, "cells[1].scores.acc.n: must be a whole number, got 1.0"),
        (("cells", 1, "scores"), [], "cells[1].scores: must have fields"),
        (("cells", 1, "together"), "ab", "cells[1].together: must be a list, got 'ab'"),
        (("machine", "cores"), "two", "machine.cores: must be a whole number, got 'two'"),
        (("protocol", "tasks", 0, "seed"), 1.5, "protocol.tasks[0].seed: must be a whole number, got 1.5"),
        (("packages",), ["torch"], "packages: must have fields, got a list"),
        (("command",), "run", "command: must be a list, got 'run'"),
        (("name",), 5, "name: must be text, got 5"),
    ],
)
@pytest.mark.parametrize("raw", [FORMER, PRESENT], ids=["schema 3", "present"])
def test_a_wrong_field_is_named(
    tmp_path: Path, raw: dict[str, Any], place: tuple[Any, ...], value: Any, message: str
) -> None:
    raw = deepcopy(raw)
    inside: Any = raw
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    (tmp_path / "record.json").write_text(json.dumps(raw))
    with pytest.raises(UserError) as error:
        read_record(tmp_path / "record.json")
    assert str(error.value).startswith(f"{tmp_path / 'record.json'}: {message}")


def test_one_broken_record_is_named_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("good", json.dumps(PRESENT)), ("cut", "{"), ("null", "null"), ("\x1b]0;x\x07", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "record.json")
    assert cli.main(["leaderboard", "--results", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "ours" in out
    assert len([line for line in err.splitlines() if line.startswith("left out: ")]) == 4
    assert "no regular file" in err
    assert "\x1b" not in err


def test_records_of_former_schemas_are_read_as_they_were(tmp_path: Path) -> None:
    for schema in (1, 2, 3):
        found = read(tmp_path / "record.json", {**FORMER, "schema": schema})
        assert found is not None
        assert found.peak_memory_mib == FORMER["peak_memory_mb"]  # it was MiB
        assert found.cells[0].peak_memory_mib == pytest.approx(
            FORMER["cells"][0]["peak_memory_mb"] * 1e6 / 2**20, abs=0.1
        )
        assert found.machine.memory_gib == FORMER["machine"]["memory_gb"]
        assert found.cells[0].protocol == found.protocol.tasks[0]
        assert found.cells[0].scores["acc"].unit == "share"
