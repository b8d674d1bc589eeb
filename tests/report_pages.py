"""Runs with samples on disk, and pages made of them, for the tests of reports."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from records import cell, model, record

from harness.analysis.report import Bounds, Report, make_report
from harness.analysis.selection import find_runs
from harness.records.model_info import Comparison, SelfTest
from harness.records.record import Cell, RunRecord, Score
from harness.records.samples import Sample, write_samples
from harness.records.stats import wilson_interval
from harness.show.report.page import to_html
from tasks.registry import load_suite

Change = Callable[[str, int, int], dict[str, Any]]
"""What a sample of a task at a length and place has otherwise."""
HOSTILE = (
    "<script>window.broken = 1</script>",
    "</script><script>window.broken = 1</script>",
    "<!--<script>",
    "]]><img src=x onerror='window.broken = 1'>",
    '" onfocus="window.broken = 1" autofocus x="',
    "' onmouseover='window.broken = 1",
    "{{ 7 * 7 }}{% raw %}&lt;b&gt;&amp;",
    "\u202egnp.exe\u202c \u2066isolate\u2069 \u200b\ufeff",
    "\x00\x01\x07\x1b[31mred\x7f\x85",
    "\ud800 lone \udfff",
    "a\u2028b\u2029c\r\nd\te",
    "javascript:window.broken=1//",
    "</textarea></style></title><svg onload=window.broken=1>",
)
TASKS = ("niah_single_1", "niah_single_2", "niah_multikey_1")
LENGTHS = (1024, 2048, 4096)


def samples(task: str, length: int, number: int, right: Callable[[int], bool], change: Change | None) -> list[Sample]:
    found = []
    for index in range(number):
        value = f"{1_000_000 + 7919 * index + length}"
        fields: dict[str, Any] = {
            "task": f"gdn2_{task}_{length}",
            "index": index,
            "sample": f"{task[-8:]}{length:x}{index:x}",
            "prompt": f"p{index:x}",
            "cluster": f"c{index:x}",
            "scores": {"acc": float(right(index))},
            "answer": f" {value}." if right(index) else f" {int(value) + 1}.",
            "references": (value,),
            "query": f"key-{task}-{index}",
            "depth": round(index / max(1, number - 1), 2),
            "fill": 1.0,
            "verdict": "right" if right(index) else "wrong",
            "answered": True,
            "excerpt": ("the key is ", value, ". More text"),
            "tail": "What is the key?",
        }
        found.append(Sample(**{**fields, **(change(task, length, index) if change else {})}))
    return found


def scored(task: str, length: int, found: Sequence[Sample]) -> Cell:
    right = sum(sample.scores.get("acc") == 1 for sample in found)
    low, high = wilson_interval(right, len(found))
    score = Score(value=right / len(found), unit="share", n=len(found), low=low, high=high)
    return cell(task, length, scores={"acc": score}, samples=len(found), mean_fill=1.0)


def write_run(
    folder: Path,
    name: str,
    number: int = 10,
    *,
    every: int = 3,
    tasks: Sequence[str] = TASKS,
    lengths: Sequence[int] = LENGTHS,
    places: Sequence[tuple[str, int]] | None = None,
    change: Change | None = None,
    has_samples: bool = True,
) -> RunRecord:
    """A run of a model that is wrong on every so many-th sample, with its samples beside it."""
    cells, lines = [], []
    for task, length in places or [(task, length) for task in tasks for length in lengths]:
        found = samples(task, length, number, lambda index: index % every != 0, change)
        cells.append(scored(task, length, found))
        lines += found
    test = SelfTest(
        passed=True,
        backend="chunked",
        device="cpu",
        dtype="float32",
        comparisons=(Comparison(name="long", d_k=64, d_v=64, error=1e-7, tolerance=1e-5),),
    )
    run = record(
        name,
        tuple(cells),
        run_id=f"{name}/2026-01-01T00-00-00_{zlib.crc32(name.encode()):08x}",
        model=model(name, self_test=test, parameters=2_000_000, state_bytes=262_144),
        command=("run", name, "--suite", "ruler_table3"),
        packages={"torch": "2.13.0"},
    )
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(run.to_json(), encoding="utf-8", errors="surrogatepass")
    if has_samples:
        write_samples(folder, lines)
    return run


def write_hostile_runs(folder: Path) -> None:
    """A run for every hostile text, which is its name, and what its samples ask, want and answer."""
    for place, text in enumerate(HOSTILE):
        fields = {
            "sample": f"hash-{place}",
            "answer": text,
            "query": text,
            "references": (text,),
            "excerpt": (text,) * 3,
            "tail": text,
        }
        name = text if text.isprintable() else repr(text)
        write_run(folder / str(place), name, 1, tasks=TASKS[:1], lengths=LENGTHS[:1], change=lambda *_, f=fields: f)


def report_of(
    folder: Path, names: Sequence[str] = (), bounds: Bounds | None = None, suite: str = "ruler_table3"
) -> Report:
    """The report of the runs below a folder."""
    said: list[str] = []
    runs = find_runs([folder], said.append)
    return make_report(load_suite(suite), runs, names, bounds, command=("report",), on_problem=said.append)


def page_of(folder: Path, output: Path, **options: Any) -> Path:
    """Write the page of the runs below a folder."""
    output.write_text(to_html(report_of(folder, **options)), encoding="utf-8")
    return output


def data_in(page: str) -> Any:
    """The data that a page's script reads, as a browser finds it: up to the first end of a script."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(found)
