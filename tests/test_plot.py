"""Pictures as files: of the right kind, the same for the same data, no text outside or over another."""

from __future__ import annotations

import builtins
import itertools
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pictures import HOSTILE, faults, texts

from harness.analysis.depths import DepthRow
from harness.analysis.matrix import DifferenceRow
from harness.analysis.norm_grid import NormRow
from harness.analysis.picture_data import PictureData
from harness.analysis.score_rows import LengthRow, PositionRow, StateRow, StepRow
from harness.analysis.verdict_shares import VerdictRow
from harness.cli import main as cli
from harness.cli.examples import commands
from harness.errors import UserError
from harness.show.plots.look import Look, parse_width
from harness.show.plots.registry import PICTURES, STUDIES, inline_svg, render
from harness.show.plots.sheet import drawn_as
from tasks.verdicts import VERDICTS

ROOT = Path(__file__).resolve().parent.parent
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
MARKS = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF-"}


def score(model: str, number: int, **changes: Any) -> dict[str, Any]:
    value = (7 * number % 11) / 10
    fields = {"model": model, "task": "niah_single_1", "metric": "acc", "unit": "share", "n": 20, "source": "s"}
    return {**fields, "value": value, "low": max(value - 0.1, 0), "high": min(value + 0.1, 1), **changes}


def rows_at(name: str, said: dict[str, Any], number: int, place: int, lengths: tuple[int, ...]) -> list[Any]:
    """The rows of a picture for a model, the number of which this is, and one of the lengths."""
    length, model, task = lengths[place], said["model"], said["task"]
    if name == "length":
        return [LengthRow(**said, length=length, published=number == 1)]
    if name == "state":
        state = {"length": 64, "state_bytes": 10 ** (number + 2), "bytes_a_token": number % 2}
        return [StateRow(**said, **state)] if place == 0 else []
    if name == "position":
        said = {**said, "unit": "bits", "metric": f"bits_{length}"}
        return [PositionRow(**said, length=lengths[-1], begin=lengths[place - 1] * (place > 0), end=length)]
    if name == "trajectory":
        return [StepRow(**said, training=model, step=100 * (place + 1), length=1024)]
    if name == "norms":
        return [
            NormRow(model=model, layer=layer, position=length, norm=layer + length / 100, source="s")
            for layer in (0, 3)
        ]
    if name == "failures":
        fields = {"model": model, "task": task, "length": length, "n": 10, "source": "s"}
        counts = zip(VERDICTS, (3, 2, 2, 1, 1, 1) if number else (1,) * 10, strict=False)
        return [VerdictRow(**fields, verdict=verdict, count=count) for verdict, count in counts]
    return [DepthRow(**said, length=length, begin=part / 10, end=part / 10 + 0.1) for part in (0, 3, 9)]


def data_of(name: str, models: tuple[str, ...], lengths: tuple[int, ...] = LENGTHS, tasks: int = 1) -> PictureData[Any]:
    """Data of a picture, with many models and lengths, or few."""
    if name == "matrix":
        pairs = list(itertools.combinations(models if len(models) > 1 else (*models, "other"), 2))
        return PictureData(name, tuple(difference(a, b, number) for number, (a, b) in enumerate(pairs)))
    rows = [
        row
        for number, model in enumerate(models)
        for task in range(1 if name == "norms" else tasks)
        for place in range(len(lengths))
        for row in rows_at(
            name, score(model, number + place + task, task=f"niah_single_{task + 1}"), number, place, lengths
        )
    ]
    return PictureData(name, tuple(rows), trained={models[0]: 2048})


def difference(a: str, b: str, number: int) -> DifferenceRow:
    value = (number % 5 - 2) / 10
    return DifferenceRow(
        a=a, b=b, label="mean of 14", places=14, unit="share", difference=value, low=value - 0.1, high=value + 0.1,
        p_corrected=0.01, told_apart=number % 2 == 0,
    )  # fmt: skip


def drawn(name: str, data: PictureData[Any], look: Look) -> Any:
    with drawn_as(look):
        sheet = PICTURES[name].draw(data, look)
        sheet.settle()
    return sheet


SHAPES = {
    "one": (("gdn2-tiny",), (1024,), 1),
    "two": (("gdn2-tiny", "smollm2-135m"), LENGTHS[1:5], 1),
    "many": (HOSTILE, LENGTHS, 2),
}
WIDTHS = {"one": "column", "two": "page", "many": "column"}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_is_cut_off_or_over_another(name: str, shape: str) -> None:
    models, lengths, tasks = SHAPES[shape]
    several = models[:2] if name in ("depth", "failures", "norms") else models
    sheet = drawn(name, data_of(name, several, lengths, tasks), Look(parse_width(WIDTHS[shape])))
    assert list(faults(sheet)) == []
    assert all(float(text.get_fontsize()) >= 5.5 for text in texts(sheet))


def test_faults_are_found() -> None:
    sheet = drawn("length", data_of("length", *SHAPES["two"]), Look())
    sheet.panels[0].set_xlabel("length " * 40)
    sheet.panels[0].set_title("over another", loc="center", pad=3)
    found = list(faults(sheet))
    assert any(fault.startswith("outside: 'length") for fault in found)
    assert any(fault.startswith("overlap: ") and "over another" in fault for fault in found)


@pytest.mark.parametrize(("name", "kind"), [("depth", "png"), ("length", "pdf"), *((name, "svg") for name in PICTURES)])
def test_the_same_data_give_the_same_bytes(name: str, kind: str) -> None:
    data = data_of(name, SHAPES["two"][0], LENGTHS[:2])
    first, second = (render(name, data, Look(), kind) for _ in range(2))
    assert first == second
    assert first.startswith(MARKS[kind])
    assert b"matplotlib" not in first.split(b"</metadata>")[0].lower() or kind == "svg"


def test_names_stay_text_in_vector_files_and_do_nothing_there() -> None:
    data = data_of("length", HOSTILE[:4], LENGTHS[:3])
    svg = render("length", data, Look(6.9), "svg").decode()
    ET.fromstring(svg)
    assert "<script" not in svg
    said = "".join(ET.fromstring(svg).itertext())
    assert "$b^{x}$" in said
    assert "two\\x0alines\\x1b[2J" in said
    assert "\\u6a21" in said
    assert "font-family: 'DejaVu Sans', Verdana, sans-serif" in svg
    assert len(re.findall(r"<text", svg)) > 8


def test_dark_pictures_are_light_on_dark() -> None:
    data = data_of("length", *SHAPES["two"])
    assert "#15171c" in render("length", data, Look(dark=True), "svg").decode().lower()


def test_an_inline_picture_is_an_element_whose_ids_no_other_picture_has() -> None:
    one, other = (inline_svg(name, data_of(name, *SHAPES["two"])) for name in ("length", "position"))
    assert one.startswith("<svg")
    assert one.endswith("</svg>")
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((one, other), ids, strict=True):
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) <= own


def test_no_two_models_have_one_colour_and_one_mark() -> None:
    strokes = Look().strokes([f"model {number}" for number in range(40)])
    assert len({(stroke.color, stroke.marker) for stroke in strokes.values()}) == 40


def test_models_of_one_state_stand_side_by_side_around_it() -> None:
    rows = [replace(row, state_bytes=states) for row, states in zip(data_of("state", ("a", "b", "c", "d")).rows, (
        1000, 1000, 8000, 1010), strict=True)]  # fmt: skip
    sheet = drawn("state", PictureData("state", tuple(rows)), Look())
    bars = [line.get_xdata()[0] for line in sheet.panels[0].lines if len(line.get_xdata()) == 2]
    assert bars[0] < bars[1] < bars[3] < bars[2] == 8000
    assert bars[1] == 1000
    assert "side by side" in sheet.panels[0].get_xlabel()


def test_more_models_than_can_be_told_apart_are_refused() -> None:
    data = data_of("length", tuple(f"model-{number}" for number in range(41)), LENGTHS[:1])
    with pytest.raises(UserError, match="plot length: 41 models are too many for a picture; name at most 40"):
        render("length", data, Look(), "png")


def test_values_that_are_no_numbers_leave_gaps() -> None:
    rows = [
        LengthRow(**score("a", i, value=float("nan"), low=None, high=None), length=length)
        for i, length in enumerate(LENGTHS)
    ]
    assert list(faults(drawn("length", PictureData("length", tuple(rows)), Look()))) == []


def test_the_page_on_pictures_shows_python_that_runs_and_small_files_that_are_there() -> None:
    page = (ROOT / "docs" / "pictures.md").read_text(encoding="utf-8")
    session: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], session)
    assert session["svg"].startswith("<svg")
    shown = re.findall(r"\]\((pictures/[\w.]+)\)", page)
    assert len(shown) >= 2
    assert all((ROOT / "docs" / name).stat().st_size < 60_000 for name in shown)


class TestCommand:
    """`plot` as it is typed."""

    def complain(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        assert cli.main(["plot", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    def test_a_picture_and_its_data_are_written(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        picture, data = tmp_path / "a.svg", tmp_path / "a.json"
        arguments = ["plot", "length", "gdn2-tiny", "--suite", "ruler_table3", "--output", str(picture)]
        assert cli.main([*arguments, "--data", str(data)]) == 0
        assert picture.read_bytes().startswith(MARKS["svg"])
        assert {row["model"] for row in json.loads(data.read_text())["rows"]} == {"gdn2-tiny"}
        assert capsys.readouterr().out.splitlines() == [str(picture), str(data)]

    def test_the_file_is_named_after_picture_and_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert cli.main(["plot", "state", "gdn2-*", "--length", "4096"]) == 0
        assert [path.name for path in tmp_path.iterdir()] == ["state-gdn2.png"]

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (
                ["length", "--output", "a.gif"],
                r"--output a\.gif: must end in one of \.png, \.svg, \.pdf, \.json, \.csv",
            ),
            (["length", "--data", "a.png"], r"--data a\.png: must end in one of \.json, \.csv"),
            (
                ["length", "--width", "wide"],
                r"--width wide: must be column, page or .* inches from 2\.5 to 40",
            ),
            (["length", "--width", "nan"], r"--width nan: must be column"),
            (["length", "gdn3-tiny"], r"gdn3-tiny: no run, model or folder .* did you mean 'gdn2-tiny'"),
            (["length", "--tasks", "nothing"], r"--tasks nothing: no column of these runs is of it"),
            (["state", "--length", "3"], r"no score at --length 3 of .* there are scores at 512, 1024"),
            (["trajectory"], r"checkpoints of one training are called NAME@STEP"),
        ],
    )
    def test_mistakes_are_one_line(
        self, arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        assert re.search(line, self.complain(capsys, *arguments))
        assert not list(tmp_path.iterdir())

    def test_a_missing_matplotlib_is_named_with_its_command(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        usual = builtins.__import__

        def without(name: str, *rest: Any, **named: Any) -> Any:
            if name.partition(".")[0] == "matplotlib":
                raise ModuleNotFoundError(name)
            return usual(name, *rest, **named)

        monkeypatch.setattr(builtins, "__import__", without)
        assert "pip install 'gdn2[plot]'" in self.complain(capsys, "length", "--output", "a.png")

    def test_the_help_of_every_picture_can_be_read(self) -> None:
        parsers = {name: parser for name, parser in commands(cli._parser()) if name.partition(" ")[0] == "plot"}
        assert {f"plot {name}" for name in (*PICTURES, *STUDIES, "list")} == parsers.keys() - {"plot"}
        assert "95 % bands" in parsers["plot"].format_help()
        assert all(parser.format_help() for parser in parsers.values())

    def test_every_picture_is_listed_with_what_it_needs(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["plot", "list"]) == 0
        out = capsys.readouterr().out
        assert all(name in out for name in (*PICTURES, *STUDIES))


def test_a_bar_of_a_task_without_a_length_says_none_beside_those_that_have_one() -> None:
    def names(lengths: tuple[Any, ...]) -> list[str]:
        rows = [replace(row, length=length) for length in lengths for row in data_of("failures", ("a",), (1024,)).rows]
        (panel,) = drawn("failures", PictureData("failures", tuple(rows)), Look()).panels[:1]
        return [label.get_text() for label in panel.get_xticklabels()]

    assert names((None, 1024)) == ["none", "1K"]
    assert names((None,)) == [""]
