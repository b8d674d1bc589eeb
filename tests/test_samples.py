"""The file of a run's samples: small, the same bytes for the same run, and read with care."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.records.samples import FILE_NAME, Sample, read_samples, samples_of, write_samples

DOC = {"sample_hash": "0123456789abcdef", "depth": [0.25, 0.75], "values": ["7", "8"], "outputs": ["8"], "query": "k"}


def lm_eval_row(index: int = 0, doc: Any = None, **more: Any) -> dict[str, Any]:
    hashes = {"doc_hash": "d" * 64, "prompt_hash": f"p{index}", "target_hash": "t"}
    base = {"doc_id": index, "doc": DOC if doc is None else doc, "filter": "none", "metrics": ["acc"], "acc": 1.0}
    return {**base, **hashes, "filtered_resps": [" 8."], **more}


def test_a_sample_is_named_by_its_content_and_says_where_the_answer_lies() -> None:
    (sample,) = samples_of({"needles": [lm_eval_row()]})
    assert (sample.sample, sample.cluster, sample.depth) == ("0123456789abcdef", "0123456789abcdef", 0.75)
    assert (sample.answer, sample.references, sample.query, sample.scores) == (" 8.", ("8",), "k", {"acc": 1.0})


def test_a_document_of_lm_evals_own_tasks_is_named_by_lm_evals_hash() -> None:
    (sample,) = samples_of({"arc": [lm_eval_row(doc={"question": "?"}, filtered_resps=[["-1.0", "False"]])]})
    assert sample.sample == "d" * 16
    assert sample.answer is None


def test_filters_of_one_document_are_one_sample_with_a_score_each() -> None:
    rows = [
        lm_eval_row(0, filter="strict", acc=0.0),
        lm_eval_row(1, filter="strict", acc=0.0),
        lm_eval_row(0, filter="flexible", acc=1.0),
    ]
    first, second = samples_of({"gsm8k": rows})
    assert first.scores == {"acc,strict": 0.0, "acc,flexible": 1.0}
    assert second.scores == {"acc,strict": 0.0}


def test_what_is_written_is_read_again_and_equal_samples_are_equal_bytes(tmp_path: Path) -> None:
    rows = [
        lm_eval_row(0),
        lm_eval_row(1, doc=DOC | {"cluster": "one context"}, acc=[-3.5, 7], filtered_resps=["\u2028é"]),
    ]
    samples = list(samples_of({"needles": rows, "others": [lm_eval_row(0, acc=None)]}))
    first = write_samples(tmp_path, samples).read_bytes()
    assert write_samples(tmp_path, samples).read_bytes() == first
    read = read_samples(tmp_path)
    assert read == {"needles": samples[:2], "others": samples[2:]}
    assert read["needles"][1].scores == {"acc": (-3.5, 7.0)}


def test_runs_without_the_file_are_read_from_lm_evals_own(tmp_path: Path) -> None:
    rows = [lm_eval_row(1), lm_eval_row(0)]
    path = tmp_path / "samples_gdn2_needles_1024_2026-11-25T16-22-09.1.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [sample.index for sample in read_samples(tmp_path)["gdn2_needles_1024"]] == [0, 1]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: must have fields"),
        ('{"task": "t", "index": -1, "sample": "a", "prompt": "b"}', "index: must be at least 0"),
        ('{"task": "t", "index": 1, "sample": "a", "prompt": "b", "scores": {"acc": "x"}}', "scores.acc"),
        ('{"task": "t", "index": 1, "sample": "a", "prompt": "b", "scores": {"acc": [1, 2, 3]}}', "scores.acc"),
        ('{"task": "t", "index": 0, "sample": "a", "prompt": "b"}', "sample 0 of t is there twice"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, named: str) -> None:
    good = Sample(task="t", index=0, sample="a", prompt="b", cluster="a").to_line()
    (tmp_path / FILE_NAME).write_bytes(gzip.compress(f"{good}\n{line}\n".encode()))
    with pytest.raises(UserError, match=named):
        read_samples(tmp_path)


def test_a_damaged_file_and_a_folder_without_samples_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no samples beside the record"):
        read_samples(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(gzip.compress(b"{}" * 100)[:-9])
    with pytest.raises(UserError, match="cannot be read"):
        read_samples(tmp_path)
