"""The figures in the pages are those of the benchmarks' committed results."""

from __future__ import annotations

import json
from pathlib import Path

import cpu_training
import imports
import parity
import report_page

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def test_the_page_on_checkpoints_has_the_rows_of_the_comparison_with_transformers() -> None:
    found = json.loads((RESULTS / "imports_cpu.json").read_text())
    page = (ROOT / "docs" / "checkpoints.md").read_text()
    assert [one["name"] for one in found["kinds"]] == list(imports.KINDS)
    for one in found["kinds"]:
        assert imports.as_row(one) in page
        assert one["greedy_tokens_equal"] == one["greedy_tokens"] == 64
        assert one["max_difference"] < 5e-5


def test_the_page_on_results_has_the_rows_of_the_comparison_with_hflm() -> None:
    found = json.loads((RESULTS / "parity_smollm2_cpu.json").read_text())
    page = (ROOT / "docs" / "results.md").read_text()
    assert parity.summary(found["scores"], found["texts"]) == found["summary"]
    assert all(row in page for row in parity.as_rows(found["summary"]))
    assert list(found["summary"]["texts"]) == list(parity.GENERATED)
    everything = found["summary"]["scores"]["all"]
    assert (
        everything["prompts_equal"] == everything["token_ids_equal"] == everything["requests"] == len(found["scores"])
    )
    assert everything["max_difference"] < 2e-4
    assert all(line["text_equal"] for line in found["texts"])


def test_the_page_on_reports_has_the_rows_of_the_measured_pages() -> None:
    found = json.loads((RESULTS / "2026-11-26_report_page.json").read_text())
    page = (ROOT / "docs" / "report.md").read_text()
    assert [row["name"] for row in found["rows"]] == [name for name, _, _ in report_page.SIZES]
    for row in found["rows"]:
        assert report_page.as_row(row) in page
        assert row["load_seconds"] < 2


def test_the_page_on_training_has_the_rows_of_steps_on_a_cpu() -> None:
    found = json.loads((RESULTS / "2026-11-26_cpu_training.json").read_text())
    page = (ROOT / "docs" / "train.md").read_text()
    assert all(cpu_training.as_row(row) in page for row in [*found["steps"], *found["rivals"]])
    assert [row["name"] for row in found["rivals"]] == list(cpu_training.RIVALS)
    assert len(found["steps"]) == len(cpu_training.LAYERS) + len(cpu_training.TINY)
    assert all(row["gradients_differ_by"] < cpu_training.TOLERANCE for row in found["steps"])
