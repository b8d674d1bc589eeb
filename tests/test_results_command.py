"""`results`: what there is, all of one, results of lm-eval, flat tables, and removing nothing but what was named."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import records

from harness.analysis.tidy import CELL_COLUMNS, SAMPLE_COLUMNS, Rows
from harness.cli.main import main
from harness.records.record import FILE_NAME, Score
from harness.records.samples import Sample, write_samples

DATA = Path(__file__).parent / "data" / "lm_eval"
FORMULA = '=HYPERLINK("http://x")'


def save(folder: Path, name: str, day: int = 1, samples: bool = True, cells: int = 2) -> Path:
    """A run with samples, in the folder of its model."""
    run_id = f"{name}/2026-01-{day:02d}T00-00-00_abcdef{day:02d}"
    listed = tuple(records.cell("niah_single_1", 1024 * (place + 1)) for place in range(cells))
    record = records.record(name, listed, run_id=run_id, started=f"2026-01-{day:02d}T00:00:00+00:00")
    place = folder / run_id
    place.mkdir(parents=True)
    (place / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
    if samples:
        answers = [FORMULA, "-7", "two\nlines, \u2028 and \ud800", "12"]
        write_samples(
            place,
            [
                Sample(task=cell.lm_eval_name, index=i, sample=f"s{i}", prompt=f"p{i}", cluster="c", answer=answer)
                if i == 3
                else Sample(
                    task=cell.lm_eval_name,
                    index=i,
                    sample=f"s{i}",
                    prompt=f"p{i}",
                    cluster="c",
                    scores={"acc": (1.0, 2.0) if i == 2 else i / 4, "other": math.inf},
                    answer=answer,
                    references=("12",),
                    depth=0.5,
                )
                for cell in listed
                for i, answer in enumerate(answers)
            ],
        )
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "runs"
    save(place, "kda", 1)
    save(place, "gdn2", 2, samples=False)
    save(place, "gdn2", 3)
    return place


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["results", *map(str, arguments)]) == code
    out, err = capsys.readouterr()
    return out, err


def test_list_has_a_line_for_each_run_within_80_columns(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out, _ = said(capsys, "list", "--results", folder)
    assert out.splitlines()[0].split()[-1] == "machine"
    long = "a-model-with-a-name-that-is-longer-than-columns[bold]-seed1"
    save(folder, long, 4)
    out, _ = said(capsys, "list", "--results", folder)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert [line.split()[-4:-2] for line in out.splitlines() if "2026-01" in line] == [
        ["1,000", "yes"],
        ["1,000", "no"],
        ["1,000", "yes"],
        ["1,000", "yes"],
    ]
    assert long in "".join(line.split()[0] for line in out.splitlines())
    out, _ = said(capsys, "list", "--results", folder, "--models", "gdn2,nothing*", "--format", "json")
    assert [(line["name"], line["date"], line["has_samples"]) for line in json.loads(out)] == [
        ("gdn2", "2026-01-02", False),
        ("gdn2", "2026-01-03", True),
    ]
    out, _ = said(capsys, "list", "--results", folder, "--suite", "other", "--format", "csv")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "named"),
    [("{", "not JSON"), ('{"schema": 99}', "newer"), ("{}", "field 'schema' is missing"), ('{"schema": 5}', "missing")],
)
def test_a_broken_record_is_named_and_hides_no_other(
    folder: Path, content: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder / "broken" / "run"
    broken.mkdir(parents=True)
    (broken / FILE_NAME).write_text(content)
    out, err = said(capsys, "list", "--results", folder, "--format", "markdown")
    assert len(out.splitlines()) == 2 + 3
    assert named in err
    assert str(broken) in err


def test_names_with_formulas_and_markup_do_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, "=1+1|<b>")
    out, _ = said(capsys, "list", "--results", tmp_path, "--format", "csv")
    assert next(iter(csv.DictReader(out.splitlines())))["name"] == "'=1+1|<b>"
    out, _ = said(capsys, "list", "--results", tmp_path, "--format", "markdown")
    assert "&#60;b&#62;" in out
    assert "=1+1&#124;" in out


def test_show_says_all_of_a_run_and_which_of_several_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = said(capsys, "show", "gdn2", "--results", folder)
    for word in ("2026-01-03T00-00-00_abcdef03", "seed 42", "greedy", "niah_single_1@2048", "with samples", "1 s"):
        assert word in out, word
    assert "the newest of 2 runs; also gdn2/2026-01-02T00-00-00_abcdef02" in err
    _, err = said(capsys, "show", "gdn3", "--results", folder, code=2)
    assert "did you mean 'gdn2'" in err


def test_results_of_lm_eval_are_added_shown_and_not_added_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = (DATA / "0.4.3").glob("results_*.json")
    out, _ = said(capsys, "add", file, "--output", tmp_path, "--name", "theirs", "--results", tmp_path)
    assert f"results: {tmp_path}/theirs/" in out
    out, _ = said(capsys, "show", "theirs", "--results", tmp_path)
    for word in ("unknown architecture", "exact_match,flexible", "lm-eval unknown", "added from lm-eval"):
        assert word in out, word
    _, err = said(capsys, "add", file, "--output", tmp_path, "--results", tmp_path, code=2)
    assert "added already" in err
    alone = Path(shutil.copy(next((DATA / "0.4.9").glob("results_*.json")), tmp_path / "results_1.json"))
    _, err = said(capsys, "add", alone, "--output", tmp_path, "--results", tmp_path)
    assert "no samples of facts_choice, facts_generate, facts_text beside the file" in err
    _, err = said(capsys, "add", alone, "--output", tmp_path, "--name", "../up", "--results", tmp_path, code=2)
    assert "--name" in err


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("rows", ["samples", "cells"])
def test_exports_are_read_by_pandas_with_the_documented_columns(
    folder: Path, rows: Rows, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pandas = pytest.importorskip("pandas")
    file = tmp_path / f"table{ending}"
    _, err = said(capsys, "export", "--rows", rows, "--output", file, "--results", folder)
    frame = pandas.read_csv(file) if ending == ".csv" else pandas.read_parquet(file)
    columns = SAMPLE_COLUMNS if rows == "samples" else CELL_COLUMNS
    assert list(frame.columns) == list(columns)
    assert len(frame) == (2 * 2 * 4 if rows == "samples" else 3 * 2)
    assert ("left out" in err) == (rows == "samples")
    if rows == "cells":
        assert set(frame["value"]) == {0.5}
        assert set(frame["length"]) == {1024, 2048}
        return
    assert frame["score"].tolist()[:3] == [0.0, 0.25, 1.0]
    assert frame["weight"].tolist()[2] == 2.0
    assert json.loads(frame["scores"][2], parse_constant=pytest.fail) == {"acc": [1.0, 2.0], "other": None}
    assert json.loads(frame["references"][0]) == ["12"]
    answers = frame["answer"].tolist()
    assert answers[:2] == ([f"'{FORMULA}", "'-7"] if ending == ".csv" else [FORMULA, "-7"])
    assert "\u2028" in answers[2]


def test_exports_are_refused_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said(capsys, "export", "--output", tmp_path / "a.xlsx", "--results", folder, code=2)
    assert "end it in .csv or .parquet" in err
    out = tmp_path / "a.csv"
    _, err = said(capsys, "export", "--suite", "none", "--output", out, "--results", folder, code=2)
    assert "no run to export" in err
    _, err = said(capsys, "export", "abcdef02", "--rows", "samples", "--output", out, "--results", folder, code=2)
    assert "no samples beside the record" in err
    assert not out.exists()


def test_remove_asks_and_takes_only_the_files_of_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, err = said(capsys, "remove", "abcdef02", "--results", folder, code=2)
    assert "say --yes" in err
    monkeypatch.setattr("sys.stdin", Answer("no\n"))
    _, err = said(capsys, "remove", "abcdef02", "--results", folder)
    assert "nothing is removed" in err
    assert len(list(folder.rglob(FILE_NAME))) == 3
    (run,) = folder.glob("gdn2/*_abcdef02")
    (run / "notes.txt").write_text("mine")
    monkeypatch.setattr("sys.stdin", Answer("y\n"))
    _, err = said(capsys, "remove", "gdn2/2026-01-02T00-00-00_abcdef02", "--results", folder)
    assert "notes.txt in it are not of the run and stay" in err
    assert [file.name for file in run.iterdir()] == ["notes.txt"]
    said(capsys, "remove", "kda", "--yes", "--results", folder)
    assert sorted(place.name for place in folder.iterdir()) == ["gdn2"]


class Answer:
    """A terminal on which somebody types."""

    def __init__(self, line: str) -> None:
        self.line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.line


def _outside(folder: Path) -> str:
    return str(save(folder.parent / "elsewhere", "other"))


def _whole(folder: Path) -> str:
    return str(folder)


def _linked(folder: Path) -> str:
    target = save(folder / "deep", "target", 5)
    (folder / "link").symlink_to(target)
    return str(folder / "link")


def _linked_out(folder: Path) -> str:
    target = save(folder.parent / "elsewhere", "target", 5)
    (folder / "link").symlink_to(target)
    return str(folder / "link")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_outside, "not inside a folder of results"),
        (_whole, "a whole folder of results"),
        (_linked, "a link; remove what it points to"),
        (_linked_out, "not inside a folder of results"),
    ],
)
def test_nothing_outside_the_folders_of_results_is_removed(
    folder: Path, make: Callable[[Path], str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = make(folder)
    before = sorted(folder.parent.rglob("*"))
    _, err = said(capsys, "remove", name, "--yes", "--results", folder, code=2)
    assert named in err
    assert sorted(folder.parent.rglob("*")) == before


def test_shipped_records_are_removed_only_by_their_id_and_yes(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.results.LEADERBOARD", folder)
    for arguments in (["gdn2", "--yes"], ["gdn2/2026-01-03T00-00-00_abcdef03"], ["*", "--yes"]):
        _, err = said(capsys, "remove", *arguments, "--results", folder, code=2)
        assert "shipped with this project: " in err
        assert "gdn2/2026-01-03T00-00-00_abcdef03" in err
    assert len(list(folder.rglob(FILE_NAME))) == 3
    said(capsys, "remove", "gdn2/2026-01-03T00-00-00_abcdef03", "--yes", "--results", folder)
    assert len(list(folder.rglob(FILE_NAME))) == 2


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, ("(1 core, 1 thread)", "1 parameter, 1 layer, state 1 byte,")),
        (2, ("(2 cores, 2 threads)", "2 parameters, 2 layers, state 2 bytes,")),
        (None, ("(unknown cores, unknown threads)", "unknown parameters, unknown layers, state unknown bytes,")),
    ],
)
def test_one_of_a_kind_is_said_in_the_singular(
    count: int | None, said: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = records.record("odd", (records.cell(truncated=count or 0),))
    model = replace(made.model, parameters=count, layers=count, state_bytes=count)
    made = replace(made, machine=replace(made.machine, cores=count, threads=count), model=model)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "record.json").write_text(made.to_json())
    assert main(["results", "show", "odd", "--results", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in said:
        assert text in shown
    assert ("1 request lost its beginning" in shown) == (count == 1)


def test_a_record_without_scores_is_a_line_and_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = save(tmp_path, "empty", cells=0, samples=False)
    out, _ = said(capsys, "list", "--results", tmp_path, "--format", "json")
    assert (json.loads(out)[0]["cells"], json.loads(out)[0]["samples"]) == (0, 0)
    said(capsys, "show", place)
    score = Score(value=0.5, unit="share", n=3, unscored=2)
    record = records.record(
        "odd",
        (records.cell(scores={"acc": score}, truncated=3, documents={"rows": 9, "dropped": 1, "empty_answers": 1}),),
    )
    (place / FILE_NAME).write_text(record.to_json())
    out, _ = said(capsys, "show", place)
    assert (
        "niah_single_1@1024: 9 rows, 1 dropped, 1 empty answer, 3 requests lost their beginning, 2 unscored"
        in " ".join(out.split())
    )
