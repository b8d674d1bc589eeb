"""`failures`: counts by task, length and depth, two models answer by answer, and hostile answers that are only text."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import records
from rich.console import Console

from harness.analysis.failures import Tally, contrast, depth_label, examples, failures_of
from harness.analysis.judged_runs import JudgedAnswer, JudgedModel, judged_model
from harness.analysis.selection import FoundRun, find_runs
from harness.cli.main import main
from harness.errors import UserError
from harness.records.record import FILE_NAME
from harness.records.samples import Sample, write_samples
from harness.show.failures import LETTERS, failures_to_text, print_failures
from tasks.verdicts import VERDICTS

HOSTILE = " <script>alert(1)</script>\n\x1b[2J[bold]\u202e|`*x*"


def sample(index: int, verdict: str | None, task: str = "gdn2_niah_single_1_1024", **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "task": task,
        "index": index,
        "sample": f"{index:016}",
        "prompt": f"p{index}",
        "cluster": f"{index:016}",
        "scores": {"acc": {"right": 1.0, "partly": 0.5}.get(verdict or "", 0.0)},
        "answer": HOSTILE,
        "references": ("12",),
        "query": "a|b",
        "depth": index / 10 % 1.0,
        "verdict": verdict,
        "answered": verdict in ("right", "partly", "wrong"),
        "excerpt": ("before\n", "The code is 12.", " behind"),
        "tail": "The code is",
    }
    return Sample(**{**fields, **changes})


def test_depths_that_are_means_are_named_with_their_tasks(tmp_path: Path) -> None:
    model = judged_model([place(tmp_path, "a", [sample(index, "right", references=("1", "2")) for index in range(3)])])
    notes = failures_of(model).model.notes
    assert [note for note in notes if note.startswith("niah_single_1: a sample's depth is the mean")]
    one = judged_model([place(tmp_path, "b", [sample(index, "right") for index in range(3)])])
    assert not any("depth" in note for note in failures_of(one).model.notes)


def place(folder: Path, name: str, samples: list[Sample], **changes: Any) -> FoundRun:
    """A run on disk with these samples; its cells are of 1,024 and 2,048 tokens."""
    cells = (records.cell(), records.cell(length=2048))
    record = records.record(name, cells, run_id=f"{name}/{changes.pop('run', 'x')}", **changes)
    home = folder / record.run_id.replace("\x1b", "_")
    home.mkdir(parents=True)
    (home / FILE_NAME).write_text(record.to_json(), encoding="utf-8")
    if samples:
        write_samples(home, samples)
    return FoundRun(home, record)


def long(index: int, verdict: str, **changes: Any) -> Sample:
    return sample(index, verdict, "gdn2_niah_single_1_2048", **changes)


def two_models(tmp_path: Path) -> tuple[JudgedModel, JudgedModel]:
    a = [sample(0, "right"), sample(1, "right"), sample(2, "wrong"), sample(3, "empty"), long(0, "right")]
    b = [sample(0, "wrong"), sample(1, "right"), sample(2, "right"), sample(3, "none"), sample(9, "cut")]
    return judged_model([place(tmp_path, "a", a)]), judged_model([place(tmp_path, "b", b)])


def test_verdicts_are_counted_by_task_length_and_depth_and_answering_is_apart_from_being_right(tmp_path: Path) -> None:
    rows = [sample(0, "right"), sample(4, "partly"), sample(9, "wrong"), sample(9 + 10, "empty", depth=1.0)]
    found = failures_of(judged_model([place(tmp_path, "a", [*rows, long(0, "echo", depth=None)])]))
    total = found.total
    assert (total.n, total.score, total.answered, total.score_when_answered) == (5, 0.3, 0.6, 0.5)
    assert {verdict: count for verdict, count in total.counts.items() if count} == {
        **dict.fromkeys(("right", "partly", "wrong", "empty", "echo"), 1)
    }
    assert [(tally.label, tally.n) for tally in found.groups["length"]] == [("1,024", 4), ("2,048", 1)]
    assert [(tally.label, tally.n) for tally in found.groups["depth"]] == [
        ("0-20 %", 1),
        ("40-60 %", 1),
        ("80-100 %", 2),
    ]
    assert [tally.label for tally in found.groups["task and length"]] == ["niah_single_1@1024", "niah_single_1@2048"]
    assert found.groups["length"][1].score_when_answered is None
    assert [depth_label(depth) for depth in (0.0, 0.2, 0.999, 1.0)] == ["0-20 %", "20-40 %", "80-100 %", "80-100 %"]


def test_a_score_is_that_of_the_main_metric_and_of_a_pair_its_second_number() -> None:
    def score(verdict: str, scores: dict[str, Any]) -> float:
        judged = sample(0, verdict, scores=scores)
        assert judged.verdict is not None
        return JudgedAnswer("t", None, judged, judged.verdict).score

    assert score("partly", {"f1": 0.25, "acc": 0.5, "acc,strict": 0.75}) == 0.5
    assert score("partly", {"f1": 0.25, "contains": None}) == 0.25
    assert score("right", {"acc": (3.0, 1.0)}) == 1.0
    assert score("wrong", {}) == 0.0


def test_examples_take_turns_between_tasks(tmp_path: Path) -> None:
    rows = [sample(index, "wrong") for index in range(3)] + [long(0, "wrong"), long(1, "empty")]
    model = judged_model([place(tmp_path, "a", rows)])
    found = examples(model.answers, 2, ["empty", "wrong"])
    assert [(answer.verdict, answer.length, answer.sample.index) for answer in found] == [
        ("empty", 2048, 1),
        ("wrong", 1024, 0),
        ("wrong", 2048, 0),
    ]
    assert examples(model.answers, 0, VERDICTS) == []


def test_two_models_are_put_side_by_side_by_what_both_were_asked(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    found = contrast(a, b)
    assert (found.alike, len(found.pairs), found.only_a, found.only_b) == ("sample", 4, 1, 1)
    assert found.crossed == {
        ("right", "wrong"): 1,
        ("right", "right"): 1,
        ("wrong", "right"): 1,
        ("empty", "none"): 1,
    }
    assert [pair[0].sample.index for pair in found.won(True)] == [0]
    assert [pair[0].sample.index for pair in found.won(False)] == [2]
    assert found.won(True, ["stale"]) == []


def test_models_of_other_tokenizers_meet_in_the_same_questions(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    other = [replace(each, sample=replace(each.sample, sample="f" * 16)) for each in b.answers]
    found = contrast(a, replace(b, answers=tuple(other)))
    assert (found.alike, len(found.pairs)) == ("question", 4)
    asked = [replace(each, sample=replace(each.sample, references=("13",))) for each in other]
    with pytest.raises(UserError, match="the samples of niah_single_1@1024 differ"):
        contrast(a, replace(b, answers=tuple(asked)))
    elsewhere = [replace(each, task="other") for each in other]
    with pytest.raises(UserError, match="no task in common"):
        contrast(a, replace(b, answers=tuple(elsewhere)))


def test_of_several_runs_of_a_model_the_most_samples_count_and_other_weights_are_passed_over(tmp_path: Path) -> None:
    place(tmp_path, "a", [sample(0, "right"), sample(1, "right")], run="1", started="2026-01-01T00:00:00+00:00")
    place(tmp_path, "a", [sample(0, "empty"), long(0, "empty")], run="2", started="2026-01-02T00:00:00+00:00")
    place(tmp_path, "a", [], run="3", started="2026-01-03T00:00:00+00:00")
    old = records.model("older")
    place(tmp_path, "a", [sample(5, "cut")] * 1, run="0", started="2025-01-01T00:00:00+00:00", model=old)
    model = judged_model(find_runs([tmp_path]))
    assert [(answer.length, answer.verdict) for answer in model.answers] == [
        (1024, "right"),
        (1024, "right"),
        (2048, "empty"),
    ]
    assert [note.split(":")[0] for note in model.notes] == ["passed over", "passed over", "put together from 2 runs"]


def test_what_cannot_be_judged_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no samples beside the record"):
        judged_model([place(tmp_path, "none", [])])
    with pytest.raises(UserError, match=r"no answer has a verdict.*niah_single_1"):
        judged_model([place(tmp_path, "unjudged", [sample(0, None)])])
    with pytest.raises(UserError, match="several models are meant: c, d"):
        judged_model([place(tmp_path, "c", [sample(0, "right")]), place(tmp_path, "d", [])])


@pytest.mark.parametrize("width", [80, 120])
def test_bars_have_a_letter_a_verdict_and_lines_fit_the_terminal(tmp_path: Path, width: int) -> None:
    rows = [sample(index, verdict) for index, verdict in enumerate(VERDICTS)]
    found = failures_of(judged_model([place(tmp_path, "a" * 90, [*rows, long(0, "right")])]))
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_failures(found, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    bar = next(line.split()[-1] for line in text.splitlines() if line.startswith("niah_single_1@1024"))
    assert set(bar) == set(LETTERS.values())
    assert len(set(LETTERS.values())) == len(VERDICTS)


def test_a_tally_of_verdicts_adds_up(tmp_path: Path) -> None:
    model = judged_model([place(tmp_path, "a", [sample(i, verdict) for i, verdict in enumerate(VERDICTS)])])
    tally = Tally(label="x", answers=model.answers)
    assert sum(tally.counts.values()) == tally.n == len(VERDICTS)
    assert set(tally.counts.values()) == {1}


def typed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["failures", *arguments]) == 0
    return capsys.readouterr().out


def test_the_command_writes_every_format_and_hostile_answers_are_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place(tmp_path, "a\x1b[31m|", [sample(0, "right"), sample(1, "wrong")])
    place(tmp_path, "b", [sample(0, "none"), sample(1, "right")])
    where = ("--results", str(tmp_path))
    named = ("b", str(tmp_path / "a_[31m|" / "x"), *where)
    for options in (("--examples", "2"), ("--examples", "2", "--format", "markdown")):
        text = typed(capsys, *named, *options)
        assert "The code is 12." in text
        assert "B is right, A is not" in text
        for letter in ("\x1b", "\u202e", "<script>" if "markdown" in options else "\r"):
            assert letter not in text
    content = json.loads(typed(capsys, *named, "--examples", "1", "--format", "json"))
    assert [model["all"]["n"] for model in content["models"]] == [2, 2]
    assert content["contrast"]["verdicts"] == [
        {"a": "none", "b": "right", "n": 1},
        {"a": "right", "b": "wrong", "n": 1},
    ]
    assert content["examples"][0]["answer"] == HOSTILE
    rows = list(csv.DictReader(io.StringIO(typed(capsys, *named, "--format", "csv"))))
    assert [(row["index"], row["verdict_a"], row["verdict_b"]) for row in rows] == [
        ("0", "none", "right"),
        ("1", "right", "wrong"),
    ]
    rows = list(csv.DictReader(io.StringIO(typed(capsys, "b", *where, "--format", "csv"))))
    assert [row["n"] for row in rows if row["by"] == "all"] == ["2"]
    file = tmp_path / "failures.txt"
    typed(capsys, "b", *where, "--output", str(file), "--verdict", "none")
    assert "no value  niah_single_1@1024 #0, depth 0%" in file.read_text()


def test_an_ending_without_a_format_and_a_model_without_runs_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place(tmp_path, "model", [sample(0, "right")])
    assert main(["failures", "model", "--results", str(tmp_path), "--output", "x.pdf"]) == 2
    assert "no format for .pdf" in capsys.readouterr().err
    assert main(["failures", "mode", "--results", str(tmp_path)]) == 2
    assert "did you mean 'model'?" in capsys.readouterr().err


def test_broken_records_are_said_once_for_two_models_and_a_verdict_that_no_answer_has_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        place(tmp_path, name, [sample(0, "right")])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "record.json").write_text("{")
    assert main(["failures", "a", "b", "--results", str(tmp_path), "--verdict", "echo", "stale"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["left out", "note"]
    assert said[1] == "note: no answers to show that are: echo, stale value"


def test_the_text_of_a_file_has_the_tables_of_the_terminal(tmp_path: Path) -> None:
    a, b = two_models(tmp_path)
    text = failures_to_text([failures_of(a)], contrast(a, b), a.answers)
    assert "why answers are wrong: a/x" in text
    assert "a/x (rows) beside b/x (columns)" in text
    assert "[The code is 12.]" in text
