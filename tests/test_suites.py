"""Suites as tables: grids, averages, the papers' rows in the papers' order, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from records import cell, place, record

from harness.errors import UserError
from harness.paths import PUBLISHED
from harness.records.leaderboard import build_table
from harness.records.published import table_rows
from harness.records.record import Score
from harness.staging.stage import select
from tasks.errors import TaskError
from tasks.registry import load_suite

PAPERS = {
    "retrieval-2k": ("gdn2_paper", "table_4", 13),
    "commonsense-gdn2": ("gdn2_paper", "table_2", 13),
    "commonsense-gdn": ("gdn_paper", "table_3", 10),
}
METRICS: dict[str | None, str] = {
    "wiki_ppl": "word_perplexity",
    "lmb_ppl": "perplexity",
    "hella": "acc_norm",
    "arc_c_norm": "acc_norm",
}


@pytest.mark.parametrize("name", PAPERS)
def test_columns_are_the_papers_in_the_papers_order(name: str) -> None:
    suite = load_suite(name)
    assert suite.published is not None
    file, table, rows = PAPERS[name]
    paper = yaml.safe_load((PUBLISHED / f"{file}.yaml").read_text())[table]
    assert [*(column.name for column in suite.columns), suite.averages[0].name] == paper["columns"]
    expected = ["swde", "squad", "fda", "triviaqa", "nq", "drop"]
    assert list(suite.averages[0].of) == paper.get("avg_over", expected)
    drawn = build_table(suite, [])
    assert len(drawn.rows) == rows
    first = drawn.rows[0]
    assert [entry.value for entry in first.entries if entry] == paper["recurrent"][first.name]
    assert all(source in drawn.notes[0] for source in (suite.published.note, "as printed in arXiv"))


@pytest.mark.parametrize("name", ["commonsense-gdn2", "commonsense-gdn"])
def test_the_two_conventions_differ_in_arc_challenge_and_openbookqa(name: str) -> None:
    suite = load_suite(name)
    metrics = {column.name: column.metric for column in suite.columns}
    assert all(metric == METRICS.get(column, "acc") for column, metric in metrics.items())
    assert ("obqa" in metrics, "arc_c" in metrics) == ((True, True) if name.endswith("2") else (False, False))
    assert len(suite.averages[0].of) == (9 if name.endswith("2") else 8)
    assert (suite.protocol.max_length, suite.protocol.shots) == (4096, 0)
    assert all(task.samples is None for task in suite.resolve())


def test_retrieval_has_no_prefix_as_its_source_has_none() -> None:
    suite = load_suite("retrieval-2k")
    assert suite.protocol.context_prefix == "none"
    assert {(column.length, column.metric) for column in suite.columns} == {(2048, "contains")}


SUITE = """
suite: s
protocol: {max_length: 2048}
columns:
  - {task: niah_single_1, lengths: [512, 1024, 700], metric: acc, samples: 500, group: N}
  - {task: squad_retrieval, metric: contains, samples: 500, name: squad, label: c, group: S}
  - {task: jrt_squad_dev, length: 512, metric: contains, samples: 500, name: dev, label: c, group: D}
averages: [{name: avg, label: mean, group: A, of: [squad, dev]}]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path / "s.yaml"


def test_lengths_are_one_column_each(small: Path) -> None:
    columns = load_suite(small).columns
    assert [(c.length, c.label) for c in columns[:3]] == [(512, "512"), (1024, "1K"), (700, "700")]
    assert {(c.samples, c.metric, c.group) for c in columns[:3]} == {(500, "acc", "N")}


def test_shots_are_the_suites_unless_a_column_says_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "few.yaml"
    columns = """
      - {task: piqa, metric: acc, label: acc, group: PIQA}
      - {task: piqa, metric: acc_norm, label: norm, group: PIQA}
      - {task: arc_challenge, metric: acc_norm, shots: 25, label: norm, group: ARC}
      - {task: wikitext, metric: word_perplexity, shots: 0, label: ppl, group: Wiki}"""
    file.write_text(f"suite: few\nprotocol: {{shots: 5}}\ncolumns:{columns}\n")
    tasks = load_suite(file).resolve()
    assert [(task.info.name, task.shots) for task in tasks] == [("piqa", 5), ("arc_challenge", 25), ("wikitext", 0)]
    assert [task.config.get("num_fewshot") for task in tasks] == [5, 25, None]
    files = ["wikitext.jsonl", "piqa.jsonl", "arc_challenge.jsonl", "piqa_train.jsonl", "arc_challenge_train.jsonl"]
    assert select([str(file)]) == files
    file.write_text(
        f"suite: few\ncolumns:{columns.replace('metric: acc_norm, label', 'metric: acc_norm, shots: 1, label')}\n"
    )
    with pytest.raises(TaskError, match=r"columns\[1\]: shots of piqa differ between two columns"):
        load_suite(file)


def recall(task: str, length: int | None, value: float, **changes: object) -> Any:
    scores = {"contains": Score(value=value, unit="share", n=500)}
    usual: dict[str, Any] = {"max_length": 2048, "version": 2.0, "generator": None, "data": {}}
    usual["generation"] = {"until": [], "max_gen_toks": 48}
    return cell(task, length, scores=scores, **{**usual, **changes})


def test_an_average_is_shown_for_rows_that_have_all_its_columns(small: Path) -> None:
    whole = record("whole", (recall("squad_retrieval", None, 0.5), recall("jrt_squad_dev", 512, 0.25)))
    half = record("half", (recall("squad_retrieval", None, 0.5),))
    table = build_table(load_suite(small), [place(whole), place(half)])
    means = {row.name: row.entries[-1] for row in table.rows}
    assert means["whole"] is not None
    assert means["whole"].value == 37.5
    assert means["half"] is None
    assert table.headers[-1].label == "mean"


def test_an_average_carries_the_notes_of_its_parts(small: Path) -> None:
    odd = record(
        "odd", (recall("squad_retrieval", None, 0.5, seed=7), recall("jrt_squad_dev", 512, 0.25, max_length=9))
    )
    table = build_table(load_suite(small), [place(odd)])
    mean = table.rows[0].entries[-1]
    assert mean is not None
    notes = [table.notes[number - 1] for number in mean.notes]
    assert notes == ["seed 7 instead of 42", "window of 9 tokens instead of 2048"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[512, 1024, 700]",
            "512",
            r"s\.yaml:5:27: columns\[0\]: field 'lengths' must be a list of whole numbers, got 512",
        ),
        ("[512, 1024, 700]", "[]", r"columns\[0\]: field 'lengths' must be a list"),
        ("group: N}", "group: N, label: x}", r"columns\[0\]: field 'label' cannot be given beside 'lengths'"),
        ("1024, 700", "512", r"s\.yaml:5:5: columns\[0\]: niah_single_1 with acc is listed twice"),
        ("of: [squad, dev]", "of: [squat]", r"averages\[0\]: no column is called 'squat'; did you mean 'squad'"),
        ("of: [squad, dev]", "of: []", r"averages\[0\]: field 'of' must be a list of texts"),
        ("of: [squad, dev]", "of: squad", r"averages\[0\]: field 'of' must be a list of texts, got 'squad'"),
        ("name: dev", "name: squad", "two columns are called 'squad'"),
        ("max_length: 2048", "shots: -1", "protocol: shots must be at least 0, got -1"),
        ("max_length: 2048", "shots: 5", r"columns\[0\]: task 'niah_single_1' takes no solved examples"),
        ("max_length: 2048", "shots: '5'", "protocol: field 'shots' must be a whole number, got '5'"),
        ("name: dev", "shots: 2, name: dev", r"columns\[2\]: task 'jrt_squad_dev' takes no solved examples"),
        ("max_length: 2048", "max_length: 0", "max_length must be at least 1, got 0"),
        ("averages: [", "averages: {", None),
        ("averages:", "apart: 'yes'\naverages:", "field 'apart' must be true or false, got 'yes'"),
        ("averages:", "published: {tables: gdn}\naverages:", "published: field 'tables' must be a list of texts"),
        ("averages:", "published: {tables: [t]}\naverages:", "published: field 'note' is missing"),
    ],
)
def test_a_wrong_suite_names_file_and_field(small: Path, old: str, new: str, message: str | None) -> None:
    text = SUITE.replace(old, new)
    text = text.replace("}]\n", "}}\n") if message is None else text
    small.write_text(text)
    with pytest.raises(TaskError, match=message or "cannot be read|not valid YAML|'averages' must be a list") as error:
        load_suite(small)
    assert str(small) in str(error.value)


def test_a_wrong_table_of_a_paper_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*gdn3_paper\.yaml; did you mean 'gdn_paper' or 'gdn2_paper'"):
        table_rows("gdn3_paper.table_2")
    with pytest.raises(UserError, match=r"no table 'figure_2' with columns; there are 'table_2', 'table_3'"):
        table_rows("gdn2_paper.figure_2")
    (tmp_path / "p.yaml").write_text("source: x\nt: {columns: [a, b], recurrent: {M: [1.0]}}")
    with pytest.raises(UserError, match="M has 1 figures for 2 columns"):
        table_rows("p.t", tmp_path)
