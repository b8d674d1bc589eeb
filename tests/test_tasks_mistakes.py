"""Mistakes in a task's file: each names file, line, field and the way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from needle_tasks import OWN_TEXT, needle_generator, write_task

from tasks.check import check_file
from tasks.data import DataNotStaged
from tasks.errors import TaskError
from tasks.generators import own_data_hashes
from tasks.preview import show_sample
from tasks.registry import resolve
from tasks.starter import BASE

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({"haystak": "noise", "haystack": None}, ("haystak",), "unknown field; did you mean 'haystack'?"),
        ({"needle": "The code is {value}.", "keys": 2}, ("needle",), r"lacks the placeholder \{key\}"),
        ({"needle": "The code of {key}."}, ("needle",), r"lacks the placeholder \{value\}"),
        ({"needle": "{key}: {vlaue}{value}"}, ("needle",), r"no such placeholder \{vlaue\}; did you mean 'value'"),
        ({"needle": "{key}: {value"}, ("needle",), "not a template"),
        ({"question": "What?", "answer_prefix": "It is", "keys": 2}, ("question",), r"lacks the placeholder \{key\}"),
        ({"queries": 2, "keys": 2}, ("question",), r"uses \{key\}, but several keys are asked: write \{keys\}"),
        ({"question": "", "answer_prefix": ""}, ("question",), "nothing is asked"),
        ({"depths": [0, 1], "keys": 3}, ("depths",), "3 needles .*, but only 2 depths"),
        ({"depths": [0, 50]}, ("depths", 1), "must be a depth from 0 .* got 50"),
        ({"depths": "grid"}, ("depths",), "must be uniform, a list"),
        ({"haystack": "essays"}, ("haystack",), "no such haystack 'essays', .*; did you mean 'essay'"),
        ({"haystack": {"file": "absent.txt"}}, ("haystack", "file"), "absent.txt does not exist; the path is relative"),
        ({"haystack": {"file": "a.doc"}}, ("haystack", "file"), "ending must be one of .txt, .md, .jsonl, .parquet"),
        ({"haystack": {"hub": "a/b", "colum": "x"}}, ("haystack", "colum"), "unknown field"),
        ({"value": "number"}, ("value",), "no such kind 'number'; did you mean 'numbers'"),
        ({"value": {"kind": "regex"}}, ("value",), "'pattern|pattern: is missing"),
        ({"value": {"kind": "regex", "pattern": "[a"}}, ("value", "pattern"), "not a regular expression"),
        ({"value": {"kind": "numbers", "digits": 0}}, ("value", "digits"), "must be a whole number from 1 to 100"),
        ({"value": {"kind": "file", "path": "absent.txt"}}, ("value", "path"), "absent.txt: cannot be read"),
        ({"key": ["a"], "keys": 2}, ("key",), "lists 1 different items, but a sample needs 2"),
        ({"queries": 2, "question": "{keys}?", "answer_prefix": ""}, ("queries",), "asks 2 keys, but there are 1"),
        ({"scoring": "exact", "values": 2}, ("scoring",), "exact needs a single answer"),
        ({"scoring": "al"}, ("scoring",), "no such scoring 'al'; did you mean"),
        ({"scoring": ["all", "f2"]}, ("scoring",), "no such scoring 'f2'; "),
        ({"scoring": ["any", "string_match_part"]}, ("scoring",), "names the same rule twice"),
        ({"scoring": []}, ("scoring",), "names no rule; known: string_match_all, "),
        ({"scoring": 1}, ("scoring",), "no such scoring 1; "),
        ({"scoring": ["f1", "exact_match"], "values": 2}, ("scoring",), "exact_match needs a single answer"),
        ({"keys": "four"}, ("keys",), "must be a whole number, 1 or more, got 'four'"),
        ({"lengths": [700, "x"]}, ("lengths", 1), "must be a whole number of tokens"),
        ({"lengths": None}, (), "field 'lengths' is missing"),
        ({"lengths": [700, 700]}, ("lengths", 1), r"lengths\[1\]: 700 is listed twice"),
        ({"lengths": [10**9]}, ("lengths", 0), "must be at most 16,777,216 tokens, got 1,000,000,000"),
        ({"haystack": {"file": "."}}, ("haystack", "file"), "the ending must be one of .txt"),
        ({"task": "mine", "seed": "x"}, ("seed",), "must be a whole number"),
    ],
)
def test_a_mistake_names_file_line_and_field(
    tmp_path: Path, tokenizer_folder: str, fields: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    file = write_task(tmp_path, **fields)
    report = check_file(file, tokenizer_folder)
    assert len(report.errors) == 1, report.errors
    assert re.search(message, report.errors[0])
    line = next(
        (number for number, text in enumerate(file.read_text().split("\n"), 1) if place and f"    {place[0]}:" in text),
        5,
    )
    assert report.errors[0].startswith(f"{file}:{line}:")
    with pytest.raises(TaskError, match=message):
        resolve(f"{file}@700")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: mine\n  bad: [", r"mine.yaml:2:6: not valid YAML: "),
        ("- task", "must be a mapping of fields"),
        ("include: absent.yaml\ntask: mine", r"mine.yaml:1:1: include: .*absent.yaml: cannot be read"),
        (f"include: {BASE}\ntask: mine", r"dataset_kwargs: must be a mapping with 'spec'"),
        (
            f"include: {BASE}\ntask: niah_single_1\ndataset_kwargs: {{spec: 1}}",
            r"mine.yaml:2:1: task: .* of this project",
        ),
        (
            f"include: {BASE}\ntask: mine\ntask: mine\ndataset_kwargs: {{spec: 1}}",
            r"mine.yaml:3:1: not valid YAML: the field 'task' is given twice",
        ),
        (
            f"include: {BASE}\ntask: mine\nmetrics: 1\ndataset_kwargs: {{spec: 1}}",
            r"mine.yaml:3:1: metrics: unknown field",
        ),
        ("task: mine\ndataset_kwargs: {spec: {}}", r"custom_dataset: missing: not a family of this project"),
        ("include: mine.yaml\ntask: mine", r"mine.yaml:1:1: include 'mine.yaml' leads back to itself"),
        ("include: [a, b]\ntask: mine", r"mine.yaml:1:1: include must be the path of one YAML file, got \['a', 'b'\]"),
        ("task: mine\nx: !new y", r"mine.yaml:2:4: no such tag !new; only !function is known"),
        ("task: !!python/name:os.system ''", r"mine.yaml:1:7: no such tag tag:yaml.org,2002:python/name:os.system"),
        ("task: mine\n\tx: 1", r"mine.yaml:2:1: not valid YAML: "),
        *(
            (f"include: {BASE}\ntask: mine\n{line}\ndataset_kwargs: {{spec: {{}}}}", rf"mine.yaml:3:\d+: {message}")
            for line, message in (
                ("metadata: 5", "metadata: must be a mapping of fields, got 5"),
                ("metadata: {data: 7}", r"metadata\.data: must be a list of staged files, got 7"),
                ("metadata: {version: x}", r"metadata\.version: must be a number, got 'x'"),
                ("generation_kwargs: 5", "generation_kwargs: must be a mapping of fields, got 5"),
                ("process_results: !function no.such", "process_results: !function no.such: neither a function of"),
                ("doc_to_text: '{{inptu}}'", "doc_to_text: is '{{inptu}}', but prompts are made and counted with"),
                ("target_delimiter: ''", "target_delimiter: is '', but prompts are made and counted with ' '"),
            )
        ),
    ],
)
def test_a_file_that_is_no_task_says_why(tmp_path: Path, tokenizer_folder: str, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert re.search(message, "\n".join(check_file(file, tokenizer_folder).errors))
    with pytest.raises(TaskError):
        resolve(f"{file}@700")


def test_a_text_of_one_endless_word_is_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    (tmp_path / "word.txt").write_text("x" * 5000)
    (error,) = check_file(write_task(tmp_path, haystack={"file": "word.txt"}), tokenizer_folder).errors
    assert "words are too coarse for this length: use a longer one" in error


def test_lengths_and_places_beyond_reason_are_refused(tokenizer_folder: str) -> None:
    with pytest.raises(TaskError, match=r"'vt': length must be at most 16,777,216 tokens, got 99,999,999"):
        resolve("vt@99999999")
    with pytest.raises(TaskError, match="index must be at least 0, got -1"):
        show_sample("niah_single_1@700", tokenizer_folder, -1)


def test_the_room_for_the_answer_is_what_the_model_may_generate(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_task(tmp_path)
    file.write_text(file.read_text().replace('"max_gen_toks": 40', '"max_gen_toks": 21'))
    (error,) = check_file(file, tokenizer_folder).errors
    assert error.startswith(f"{file}:3:")
    assert "is 21, but the spec's generated_tokens is 40" in error


def test_values_that_the_haystack_holds_are_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_task(tmp_path, value=["zinc", "Smith"], haystack="essay")
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(r"mine.yaml:\d+:5: dataset_kwargs.spec.value: .*'Smith' occurs in the haystack", error)
    (tmp_path / "digits.txt").write_text(". ".join(str(number) for number in range(10)))
    file = write_task(tmp_path, "digits", value={"kind": "numbers", "digits": 1}, haystack={"file": "digits.txt"})
    assert "cannot draw 1 different numbers; 1000 drawn ones occur" in check_file(file, tokenizer_folder).errors[0]
    file = write_task(tmp_path, "false_needles", value=["zinc", "lead"], keys=2, haystack="needle")
    assert "finds no value that the sample's own needles do not use" in check_file(file, tokenizer_folder).errors[0]
    file = write_task(tmp_path, "template", value=["code"], haystack="noise")
    assert "'code' occurs in the haystack or in a template" in check_file(file, tokenizer_folder).errors[0]


def test_a_length_below_the_templates_names_the_least_that_works(
    tmp_path: Path, tokenizer: Any, tokenizer_folder: str
) -> None:
    file = write_task(tmp_path, lengths=[700, 40], samples=9)
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(r"spec.lengths\[1\]: mine@40: too short for the templates, 1 needles .* works is \d+$", error)
    least = int(error.rsplit(" ", 1)[1])
    made = needle_generator(tokenizer, length=least, samples=9)
    made.check()
    assert all(made.sample(index)["prompt_tokens"] + 20 <= least for index in range(9))


def test_a_column_that_is_gone_is_named(tmp_path: Path, tokenizer_folder: str) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "notes.jsonl").write_text('{"text": "One. Two."}\n{"txet": "Three."}\n')
    pyarrow.parquet.write_table(pyarrow.table({"content": ["One."]}), tmp_path / "notes.parquet")
    (tmp_path / "broken.jsonl").write_text("{\n")
    (tmp_path / "number.jsonl").write_text('{"text": 1}\n')
    (tmp_path / "broken.parquet").write_text("x")
    (tmp_path / "empty.txt").write_text(" \n")
    expected = {
        "notes.jsonl": r"notes.jsonl:2: no column 'text'; did you mean 'txet'\?",
        "notes.parquet": r"notes.parquet: no column 'text'; there is only 'content'",
        "broken.jsonl": r"broken.jsonl:1: not JSON",
        "number.jsonl": r"column 'text' must hold text, got int",
        "broken.parquet": r"not a parquet file",
        "empty.txt": r"holds no text",
    }
    for number, (name, message) in enumerate(expected.items()):
        file = write_task(tmp_path, f"t{number}", haystack={"file": name})
        (error,) = check_file(file, tokenizer_folder).errors
        assert re.search(message, error), error
        assert re.match(rf"{file}:\d+:\d+: dataset_kwargs.spec.haystack", error)


def test_a_hub_data_set_that_cannot_be_had_is_explained(
    tmp_path: Path, tokenizer_folder: str, monkeypatch: Any
) -> None:
    import datasets

    def load(name: str, config: str | None, *, split: str, revision: str | None) -> datasets.Dataset:
        assert (config, split, revision) == (None, "train", "abc")
        if name == "a/gone":
            raise ConnectionError("offline")
        return datasets.Dataset.from_dict({"words": [OWN_TEXT]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    for number, (hub, message) in enumerate(
        {"a/gone": "cannot be loaded (offline)", "a/b": "no column 'text'"}.items()
    ):
        file = write_task(tmp_path, f"t{number}", haystack={"hub": hub, "revision": "abc"})
        assert message in check_file(file, tokenizer_folder).errors[0]
    file = write_task(tmp_path, "good", haystack={"hub": "a/b", "revision": "abc", "field": "words"})
    assert check_file(file, tokenizer_folder).errors == ()
    assert list(own_data_hashes(resolve(f"{file}@700").config)) == ["a/b"]


def test_missing_essays_and_an_empty_tokenizer_are_explained(tmp_path: Path, tokenizer_folder: str) -> None:
    class Nothing:
        def encode(self, _text: str, **_: Any) -> list[int]:
            return []

    with pytest.raises(TaskError, match="to no tokens; give a trained one by --tokenizer"):
        needle_generator(Nothing(), haystack="noise").sample(0)
    file = write_task(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(tmp_path))
        with pytest.raises(DataNotStaged, match=r"essays.json.*run_eval.py stage"):
            check_file(file, tokenizer_folder)
