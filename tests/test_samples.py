"""The file of a run's samples: small, the same bytes for the same run, and read with care."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest
from records import cell

from harness.errors import UserError
from harness.records.judged import prompt_rooms
from harness.records.samples import FILE_NAME, Sample, lines_of, read_samples, samples_of, write_samples

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


def needle_row(index: int = 0, **more: Any) -> dict[str, Any]:
    """A row of a needle task that answers with another value of its context."""
    doc = {"generator": "exact", "outputs": ["12"], "values": ["12", "34"], "prompt_tokens": 100, "query": "a"}
    row = {"doc": doc, "arguments": [("The code of a is 12.\nThat of b is 34.\nThe code of a is", {})], "acc": 0.0}
    return lm_eval_row(index, **{**row, "filtered_resps": [" 34"], **more})


def test_a_generated_answer_is_judged_with_its_prompt_at_hand(tmp_path: Path) -> None:
    rows = [
        needle_row(0),
        needle_row(1, filtered_resps=[" \ud800"]),
        lm_eval_row(2, filtered_resps=[["-1.0", "False"]]),
    ]
    first, second, third = samples_of({"needles": rows})
    assert (first.verdict, first.answered) == ("wrong", True)
    assert first.excerpt == ("", "The code of a is 12.", "\nThat of b is 34.\nThe code of a is")
    assert first.tail == "The code of a is 12.\nThat of b is 34.\nThe code of a is"
    assert (second.verdict, second.answered) == ("none", False)
    assert (third.verdict, third.answered, third.tail) == (None, None, None)
    write_samples(tmp_path, [first, second, third])
    assert read_samples(tmp_path)["needles"] == [first, second, third]


def test_samples_of_earlier_runs_are_judged_from_lm_evals_files_and_as_cut_where_the_record_says_so(
    tmp_path: Path,
) -> None:
    row = needle_row(0)
    row["arguments"] = {"gen_args_0": {"arg_0": row["arguments"][0][0], "arg_1": {}}}
    (tmp_path / "samples_needles_2026-11-25T16-22-09.1.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert read_samples(tmp_path)["needles"][0].verdict == "wrong"
    generation = {"until": [], "max_gen_toks": 28}
    cells = [
        cell(lm_eval_name="needles", max_length=length, generation=generation, truncated=1) for length in (127, 128)
    ]
    for number, expected in enumerate(["cut", "wrong"]):
        rooms = prompt_rooms(cells[number : number + 1])
        assert read_samples(tmp_path, rooms)["needles"][0].verdict == expected
    assert prompt_rooms([cell(generation=generation)]) == {}


def test_the_verdict_is_that_of_the_answer_before_other_filters() -> None:
    rows = [needle_row(0, filter="strict", acc=1.0), needle_row(0), needle_row(0, filter="last", acc=1.0)]
    (sample,) = samples_of({"needles": rows})
    assert (sample.verdict, sample.scores) == ("wrong", {"acc,strict": 1.0, "acc": 0.0, "acc,last": 1.0})


@pytest.mark.parametrize(
    ("field", "named"),
    [('"verdict": "bad"', "verdict: must be one of"), ('"excerpt": ["a"]', "excerpt: must be three texts")],
)
def test_a_verdict_or_an_excerpt_that_is_none_is_named(tmp_path: Path, field: str, named: str) -> None:
    line = f'{{"task": "t", "index": 1, "sample": "a", "prompt": "b", {field}}}'
    (tmp_path / FILE_NAME).write_bytes(gzip.compress(line.encode()))
    with pytest.raises(UserError, match=named):
        read_samples(tmp_path)


def test_a_file_is_read_line_by_line_never_whole(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    noise = random.Random(3).randbytes(200_000).hex().encode()
    path.write_bytes(gzip.compress(b'{"a": 1}\n\n{"b": "\xe2\x80\xa8"}\n' + noise)[:-9])
    lines = lines_of(path)
    assert [next(lines), next(lines)] == [(1, {"a": 1}), (3, {"b": "\u2028"})]
    with pytest.raises(UserError, match="cannot be read"):  # its end, which was cut off, has not been looked at so far
        next(lines)


def test_samples_share_the_names_of_their_task_and_metrics(tmp_path: Path) -> None:
    line = '{"task":"niah_at_1024","index":%d,"sample":"a","prompt":"b","scores":{"some_metric":1.0}}\n'
    (tmp_path / FILE_NAME).write_bytes(gzip.compress("".join(line % index for index in range(50)).encode()))
    (found,) = read_samples(tmp_path).values()
    assert len({id(sample.task) for sample in found}) == 1
    assert len({id(name) for sample in found for name in sample.scores}) == 1
    assert {sample.cluster for sample in found} == {"a"}
