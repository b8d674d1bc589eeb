"""The figures in the pages are those of the benchmarks' committed results."""

from __future__ import annotations

import json
from pathlib import Path

import imports

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
