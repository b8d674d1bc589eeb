"""From lm-eval's result of a task to its cell: units, intervals, and what cannot be a score."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.records.cells import make_cell, task_protocol
from harness.records.record import Cell
from harness.show.progress import summary_line
from tasks.registry import resolve

COUNTS: dict[str, Any] = {"truncated": 0, "tokens": 8, "shared_tokens": 0, "seconds": 2.0, "peak_memory_mib": None}


def cell_of(name: str, metric_values: dict[str, list[Any]], values: dict[str, float]) -> Cell:
    task = resolve(name)
    rows = [
        {"doc": {}, "filtered_resps": [" 7"], **{metric: listed[i] for metric, listed in metric_values.items()}}
        for i in range(len(next(iter(metric_values.values()))))
    ]
    results = {f"{metric},none": value for metric, value in values.items()}
    result = {"results": {task.lm_eval_name: results}, "samples": {task.lm_eval_name: rows}}
    return make_cell(task, task_protocol(task, 512, {}), result, context_prefix="none", **COUNTS)


def test_a_score_has_its_unit_and_an_interval_in_it() -> None:
    pairs = [(-10.0, 10), (-30.0, 20), (-22.0, 11)]
    names = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    found = cell_of("wiki_perplexity", dict.fromkeys(names, pairs), {**dict.fromkeys(names[:2], 4.5), names[2]: 2.2})
    assert {name: score.unit for name, score in found.scores.items()} == {
        "word_perplexity": "perplexity",
        "byte_perplexity": "perplexity",
        "bits_per_byte": "bits",
    }
    bits, words = found.scores["bits_per_byte"], found.scores["word_perplexity"]
    assert bits.low is not None
    assert words.low is not None
    assert words.low == pytest.approx(math.exp(bits.low * math.log(2)))


def test_what_is_no_number_of_its_unit_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    for value in (math.inf, math.nan, 2.0, -0.5):
        found = cell_of("niah_single_1@512", {"acc": [1, 0]}, {"acc": value})
        assert found.scores == {}
        assert "gdn2_niah_single_1_512: acc.value: " in caplog.text
        caplog.clear()
    assert "no score" in summary_line(found)
    assert "acc 0.5 (n=2)" in summary_line(cell_of("niah_single_1@512", {"acc": [1, 0]}, {"acc": 0.5}))


def test_a_perplexity_whose_interval_is_beyond_all_numbers_has_none() -> None:
    found = cell_of(
        "lambada_openai", {"perplexity": [-10.0, -5000.0], "acc": [0, 0]}, {"perplexity": 1e300, "acc": 0.0}
    )
    assert found.scores["perplexity"].high is None
    assert found.scores["acc"].unit == "share"
