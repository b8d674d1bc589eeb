"""What pages show of the shipped records is what their commands make, and the records are what their samples make."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import small_checkpoint

from harness.analysis.recomputed import faults_of, remade
from harness.analysis.selection import FoundRun, find_runs
from harness.cli import reproduce
from harness.cli.main import main
from harness.errors import UserError
from harness.paths import ROOT
from harness.records.record import FILE_NAME, RunRecord, Score
from harness.records.samples import write_samples
from harness.runs.options import RunOptions
from harness.runs.runner import run_options
from harness.show.pages import MANIFEST, difference, read_manifest, with_block

TABLE = "leaderboard --results results/leaderboard --format markdown"


def test_everything_that_we_ship_is_as_its_command_makes_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["reproduce"])
    out, err = capsys.readouterr()
    assert code == 0, out[:3000]
    assert "DIFFERS" not in err


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one page, one picture's numbers and some of our records, which a test may change."""
    for name in ("gdn2-tiny", "smollm2-135m"):
        shutil.copytree(ROOT / "results" / "leaderboard" / name, tmp_path / "results" / "leaderboard" / name)
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    picture = "plot state --suite ruler_table3 --length 8192 --results results/leaderboard"
    manifest = f"""
matplotlib: none
tables: [{{file: README.md, command: {TABLE}}}]
figures: [{{file: docs/pictures/state.svg, data: docs/pictures/state.json, command: {picture}}}]
"""
    (tmp_path / MANIFEST).write_text(manifest)
    (tmp_path / "README.md").write_text(
        f"# A\n<!-- made by `python run_eval.py {TABLE}` -->\n\nold\n\n<!-- end -->\nB\n"
    )
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    return tmp_path


def test_differences_are_shown_and_written_on_demand(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["reproduce"])
    out, err = capsys.readouterr()
    assert code == 1, err
    assert "--- README.md (shipped)\n+++ README.md (made by `leaderboard" in out
    assert "\n-old\n" in out
    assert "+| gdn2-tiny | " in out
    assert "--- docs/pictures/state.json (shipped)" in out
    assert "only their numbers are compared" in err
    assert "2 differences" in err
    before = Path.cwd()
    assert main(["reproduce", "--write"]) == 0
    assert Path.cwd() == before
    assert main(["reproduce"]) == 0
    page = (checkout / "README.md").read_text()
    assert page.startswith("# A\n<!-- made by")
    assert page.endswith("<!-- end -->\nB\n")
    assert json.loads((checkout / "docs/pictures/state.json").read_text())["rows"]


def _table(text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / MANIFEST).write_text(text)

    return write


def _page(root: Path) -> None:
    (root / "docs" / "a.md").write_text("<!-- made by `python run_eval.py compare a b` -->\n\nx\n\n<!-- end -->")


def _no_block(root: Path) -> None:
    (root / "README.md").write_text("nothing")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_page, "docs/a.md: a block made by `compare a b` that results/reproduce.yaml does not name"),
        (_no_block, "README.md has no block"),
        (_table("tables: []"), "must have the fields tables, figures and matplotlib"),
        (_table("{tables: [a], figures: [], matplotlib: x}"), r"tables\[0\] must have the fields command, file"),
        (_table("{tables: [{file: a, command: compare a}], figures: [], matplotlib: x}"), "must say --results"),
        (_table("{tables: [{file: a, command: study a}], figures: [], matplotlib: x}"), "must say --output"),
        (
            _table("{tables: [{file: a, command: study a --output results/studies}], figures: [], matplotlib: x}"),
            "must say --plan",
        ),
        (
            _table("{tables: [{file: a, command: plot study a}], figures: [], matplotlib: x}"),
            "must say --results results/studies",
        ),
        (
            _table(
                "{tables: [{file: a, command: plot study a --results results/leaderboard}], figures: [], matplotlib: x}"
            ),
            "must say --results results/studies",
        ),
        (_table("{tables: 1, figures: [], matplotlib: x}"), "tables must be a list"),
        (lambda root: (root / MANIFEST).unlink(), "an installed package has not"),
    ],
)
def test_a_manifest_that_does_not_name_what_pages_have_is_refused(
    checkout: Path, change: Callable[[Path], Any], named: str
) -> None:
    change(checkout)
    with pytest.raises(UserError, match=named):
        read_manifest(checkout)


def test_a_block_is_put_in_its_place_and_equal_texts_have_no_difference() -> None:
    page = "a\n<!-- made by `python run_eval.py x` -->\n\n1\n\n<!-- end -->\nb <!-- end -->"
    assert with_block(page, "x", "2\n") == page.replace("1", "2")
    assert difference(page, page, "a.md", "x") == ""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FoundRun:
    """A run over metrics of many kinds: right and wrong, groups that are scored as one, such of some documents only."""
    folder = tmp_path_factory.mktemp("run")
    checkpoint = small_checkpoint(folder / "small")
    tasks = ("niah_single_1@512", "mqar@600", "edit_forget@600")
    done = run_options(RunOptions(checkpoint=str(checkpoint), tasks=tasks, samples=4, output=folder))
    return FoundRun(done.folder, done.record)


def test_samples_make_the_very_scores_intervals_and_fills_of_a_record(run: FoundRun) -> None:
    assert faults_of(run) == []
    for cell in run.record.cells:
        for metric, score in cell.scores.items():
            made = remade(cell, metric, run.samples[cell.lm_eval_name])
            assert made is not None
            assert (made.n, made.unscored) == (score.n, score.unscored)


def _score(record: RunRecord, **changes: Any) -> RunRecord:
    cell = record.cells[0]
    scores = {**cell.scores, "acc": replace(cell.scores["acc"], **changes)}
    return replace(record, cells=(replace(cell, scores=scores), *record.cells[1:]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: _score(record, value=0.625), "niah_single_1@512: acc.value is 0.625, its samples make"),
        (lambda record: _score(record, n=5), "niah_single_1@512: acc.n is 5, its samples make 4"),
        (lambda record: _score(record, high=0.999), "acc.high is 0.999"),
        (lambda record: replace(record, protocol_hash="0" * 64), "protocol_hash is 000000000000…"),
        (lambda record: replace(record, cells=record.cells[::-1]), "not those of its tasks"),
        (
            lambda record: replace(record, cells=(replace(record.cells[0], mean_fill=0.5), *record.cells[1:])),
            "mean_fill is 0.5, its samples make 1.0",
        ),
    ],
)
def test_a_record_that_was_changed_is_named(
    run: FoundRun, change: Callable[[RunRecord], RunRecord], named: str, tmp_path: Path
) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run" / FILE_NAME).write_text(change(run.record).to_json(), encoding="utf-8")
    (found,) = find_runs([tmp_path])
    assert any(named in fault for fault in faults_of(found)), faults_of(found)


def test_samples_that_were_changed_and_such_that_are_missing_are_named(run: FoundRun, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.folder, tmp_path / "run"))
    first, *others = [sample for samples in run.samples.values() for sample in samples]
    write_samples(folder, [replace(first, scores={"acc": 1.0 - first.scores["acc"]}), *others])
    assert any("acc.value" in fault for fault in faults_of(FoundRun(folder, run.record)))
    write_samples(folder, others)
    assert any("acc.n is 4, its samples make 3" in fault for fault in faults_of(FoundRun(folder, run.record)))


def test_pairs_and_perplexities_are_put_together_as_lm_eval_does(run: FoundRun) -> None:
    from lm_eval.api.registry import get_aggregation

    from harness.analysis.recomputed import KNOWN

    pairs = [(-61.5, 4), (-30.25, 9), (-2.0, 1)]
    for name in ("weighted_perplexity", "bits_per_byte"):
        assert KNOWN[name](pairs) == pytest.approx(get_aggregation(name)(pairs), rel=1e-12)
    for name in ("perplexity", "mean"):
        assert KNOWN[name]([-1.5, -2.0]) == pytest.approx(get_aggregation(name)([-1.5, -2.0]), rel=1e-12)
    cell = replace(run.record.cells[0], scores={"acc": Score(value=0.0, unit="share", n=0)})
    assert remade(cell, "unknown", []) is None
