"""Task files and texts as editors, web pages and slips of the pen make them: right, or refused with file and line."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from needle_tasks import SPEC, write_task

from tasks.check import check_file
from tasks.errors import TaskError
from tasks.needle.sources import parse_source, read_text
from tasks.registry import load_suite, resolve
from tasks.starter import BASE
from tasks.text.kinds import Kind, draw_distinct, number, parse_kind
from tasks.text.patterns import from_pattern

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: loop\ndataset_kwargs: &a\n  spec: *a\n", r":3:9: not valid YAML: \*a refers to itself"),
        (BOMB + "task: bomb\n", r":\d+:\d+: not valid YAML: aliases stand for over 10,000 values"),
        ("task: " + "[" * 100_000, r":1:\d+: not valid YAML: nested deeper than 100 levels"),
        ("task: x\nseed: 0x" + "F" * 9999, r":2:7: not valid YAML: a whole number of too many digits"),
        ("task: x\nrepeats: 2026-13-40", r":2:10: not valid YAML: not a value of the type timestamp"),
        ('task: x\ndescription: "\\ud83d"', r":2:14: not valid YAML: half a character"),
        ("task: x\nprocess_docs: !function [a]", r":2:15: !function must name one function"),
        ("include: \"\\0\"\ntask: x", r":1:1: include must be the path of one YAML file"),
    ],
)  # fmt: skip
def test_yaml_that_would_hang_or_crash_is_refused_at_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    (line,) = check_file(file, "no tokenizer is read").errors
    assert re.match(re.escape(str(file)) + message, line)
    with pytest.raises(TaskError, match=message):
        load_suite(file)


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    for name in ("mine.yaml", "base.yaml", "names.txt", "rows.jsonl"):
        os.mkfifo(tmp_path / name)
    assert "mine.yaml: cannot be read (it is no regular file)" in check_file(tmp_path / "mine.yaml", "").errors[0]
    (tmp_path / "second.yaml").write_text("task: second\ninclude: base.yaml\n")
    (line,) = check_file(tmp_path / "second.yaml", "").errors
    assert re.search(r"second\.yaml:2:1: include: .*base\.yaml: cannot be read \(it is no regular file\)", line)
    assert "no regular file" in str(parse_kind({"kind": "file", "path": "names.txt"}, tmp_path))
    assert "no regular file" in str(parse_source({"file": "rows.jsonl"}, tmp_path))


TOP = [
    ("generation_kwargs: {until: 5, max_gen_toks: 40}", "generation_kwargs.until: must be a text or a list of texts"),
    ("generation_kwargs: {do_sampel: false, max_gen_toks: 40}", "generation_kwargs.do_sampel: unknown field; did you"),
    ("generation_kwargs: {do_sample: true, max_gen_toks: 40}", "generation_kwargs.do_sample: is True, but the model"),
    ("generation_kwargs: {max_gen_toks: '20'}", "max_gen_toks: must be a whole number from 1"),
    ("process_docs: !function os.system", "process_docs: !function os.system: neither a function of this project's"),
    ("process_docs: !function beside.absent", "process_docs: !function beside.absent: cannot be imported"),
    ("process_docs: !function beside.NUMBER", "process_docs: !function beside.NUMBER: is no function but int"),
    ("process_docs: !function beside.nothing", "process_docs: lm-eval cannot run the task: IndexError"),
    ("process_docs: !function beside.breaks", "process_docs: lm-eval cannot run the task: KeyError"),
    ("process_results: !function broken.score", "process_results: !function broken.score: cannot be imported"),
    ("process_results: !function beside.breaks", "process_results: lm-eval cannot run the task: KeyError"),
    ("process_results: !function beside.other", "metric_list[0]: no document is scored by 'acc'"),
    ("doc_to_target: '{{ nothing.at.all }}'", "doc_to_target: lm-eval cannot run the task: UndefinedError"),
    ("task_alias: [!function tasks.scoring.score_needles]", "task_alias[0]: takes no function"),
    ("description: Answer.", "description: is 'Answer.', but prompts are made and counted with ''"),
    ("repeats: 2", "repeats: is 2, but prompts are made and counted with 1"),
    ("metadata: {data: [esays.json]}", "metadata.data[0]: no staged file 'esays.json'; did you mean 'essays.json'"),
    ("metadata: {version: .inf}", "metadata.version: must be finite"),
]


@pytest.mark.parametrize(("line", "message"), TOP)
def test_what_a_run_could_not_take_is_found_by_check(
    tmp_path: Path, tokenizer_folder: str, line: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('at import')\n")
    (tmp_path / "beside.py").write_text(
        "NUMBER = 5\n\n\ndef nothing(docs):\n    return docs.select([])\n\n\n"
        "def breaks(*given):\n    raise KeyError('x')\n\n\ndef other(doc, results):\n    return {'exact': 1.0}\n"
    )
    file = write_task(tmp_path, haystack="noise", lengths=[300], samples=2)
    kept = [kept for kept in file.read_text().splitlines() if kept.split(":")[0] != line.split(":")[0]]
    file.write_text("\n".join([*kept, line]))
    errors = check_file(file, tokenizer_folder).errors
    assert len(errors) == 1, errors
    assert errors[0].startswith(f"{file}:{len(kept) + 1}:" if "metric_list" not in message else str(file))
    assert message in errors[0]


def test_a_function_of_a_file_beside_the_task_is_taken(tmp_path: Path, tokenizer_folder: str) -> None:
    (tmp_path / "beside.py").write_text("def score(doc, results):\n    return {'acc': float(len(results[0]))}\n")
    file = write_task(tmp_path, haystack="noise", lengths=[300], samples=2)
    text = file.read_text() + "process_results: !function beside.score\n"
    file.write_text(text + "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n")
    assert check_file(file, tokenizer_folder).errors == ()
    function = resolve(f"{file}@300").config["process_results"]
    assert (function.__module__, function({}, ["abc"])) == ("beside", {"acc": 3.0})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seed": 2**63}, "seed: must be a whole number of 64 bits"),
        ({"samples": 10**12}, "samples: must be at most 1,000,000, got 1,000,000,000,000"),
        ({"keys": 800}, r"keys: 800 needles .*, but the length has 700 tokens"),
        ({"distractors": 10**9}, "distractors: 1,000,000,001 needles"),
        ({"lengths": [1 << 24], "values": 20_000}, "values: 20,000 needles .*, but at most 10,000 are planted"),
        ({"needle": "{value:>99999999}"}, "needle: {value} takes no format"),
        ({"value": {"kind": "regex", "pattern": "a{99999999}"}}, "value.pattern: draws strings of up to 1e"),
        ({"value": {"kind": "regex", "pattern": "(" * 90 + ")" * 90}}, "value.pattern: has 90 groups; at most 50"),
        ({"value": {"kind": "regex", "pattern": r"[\ud83d]"}}, "value.pattern: .*half a character"),
        ({"key": {"kind": {}}}, "key.kind: no such kind {}"),
        ({"task": "x" * 101}, "spec.task: must be a name of letters"),
    ],
)
def test_a_number_beyond_all_bounds_is_named(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    errors = check_file(write_task(tmp_path, **fields), "").errors
    assert any(re.search(message, line) for line in errors), errors
    assert all(line.startswith(f"{tmp_path}/") for line in errors)


def test_documents_that_nobody_could_wait_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"samples must be at most 1,000,000, got 1,000,000,000,000"):
        resolve("niah_single_1@1024", samples=10**12)
    with pytest.raises(TaskError, match="1,000,000 samples of 65,536 tokens are more than 8,589,934,592 tokens"):
        resolve("niah_single_1@65536", samples=10**6)
    assert resolve("niah_single_1@1048576", samples=500).samples == 500
    column = "{task: niah_single_1, length: 512, metric: acc, label: x, group: g, samples: 1000000000000}"
    (tmp_path / "s.yaml").write_text(f"suite: s\ncolumns:\n  - {column}\n")
    with pytest.raises(TaskError, match=r"s\.yaml:3:5: columns\[0\]: task 'niah_single_1': samples must be at most"):
        load_suite(tmp_path / "s.yaml")
    for name, least in (("edit_overwrite", "keys: 400"), ("edit_overwrite", "updates: 1000000000")):
        base = BASE.parent.parent / "editing" / name / "_base.yaml"
        spec = f"{{task: mine, probe: overwrite, lengths: [512], samples: 4, {least}}}"
        (tmp_path / "mine.yaml").write_text(f"include: {base}\ntask: mine\ndataset_kwargs: {{spec: {spec}}}\n")
        assert (
            "statements (keys x (1 + updates)) are more than the 512"
            in check_file(tmp_path / "mine.yaml", "").errors[0]
        )


def test_marks_and_separators_are_no_part_of_items(tmp_path: Path) -> None:
    (tmp_path / "cities.txt").write_bytes("\ufeffZürich\r\nSão\u2028Paulo\n\nBern".encode())
    kind = parse_kind({"kind": "file", "path": "cities.txt"}, tmp_path)
    assert isinstance(kind, Kind)
    assert kind.items == ("Zürich", "São\u2028Paulo", "Bern")
    (tmp_path / "rows.jsonl").write_bytes('\ufeff{"text": "a\u2028b"}\r\n{"text": "c"}\n'.encode())
    source = parse_source({"file": "rows.jsonl"}, tmp_path)
    assert not isinstance(source, list)
    assert read_text(source) == "a\u2028b\nc"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "\\ud83d"}', r"rows\.jsonl:2: \\ud83d is half a character"),
        (b"[" * 100_000, r"rows\.jsonl:2: nested too deeply"),
        (b"{", r"rows\.jsonl:2: not JSON"),
        (b"\xff", r"rows\.jsonl:2: not UTF-8"),
    ],
)
def test_a_row_that_is_none_is_named_with_its_line(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "good"}\n' + line)
    source = parse_source({"file": "rows.jsonl"}, tmp_path)
    assert not isinstance(source, list)
    with pytest.raises(TaskError, match=message):
        read_text(source)


def test_many_different_items_are_drawn_in_a_moment_and_none_holds_another() -> None:
    found = draw_distinct(random.Random(1), lambda rng: number(rng, rng.randint(2, 9)), 2000, what="n", absent_from=())
    assert len(set(found)) == 2000
    few = found[:150]
    assert not any(a in b for a in few for b in few if a != b)
    assert found[:3] == draw_distinct(
        random.Random(1), lambda rng: number(rng, rng.randint(2, 9)), 3, what="n", absent_from=()
    )
    assert draw_distinct(random.Random(1), lambda _: "Ab", 1, what="n", absent_from=(), taken=["c"]) == ["Ab"]
    with pytest.raises(TaskError):
        draw_distinct(random.Random(1), lambda _: "Ab", 1, what="n", absent_from=(), taken=["xABx"])


@pytest.mark.parametrize("pattern", [r"(a+)+$b", r"(?i)a", r"(?i:a)b", "a{2}++"])
def test_patterns_whose_matching_could_take_for_ever_are_not_tried(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"not supported|not a regular expression"):
        from_pattern(pattern)


def test_the_spec_of_these_tests_is_right(tmp_path: Path, tokenizer_folder: str) -> None:
    assert SPEC["task"] == "mine"
    assert check_file(write_task(tmp_path, haystack="noise", lengths=[300], samples=2), tokenizer_folder).errors == ()
