"""Retrieval tasks from a YAML file: exact samples, every mistake with its line, and the same numbers everywhere."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import small_checkpoint
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.config.task import TaskConfig
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from rich.console import Console
from test_tasks_niah import train_tokenizer, write_data

from harness.cli import main as cli
from harness.lm.evaluate import evaluate_tasks
from harness.records.leaderboard import build_table
from harness.run.options import RunOptions
from harness.run.runner import run
from tasks import own
from tasks.check import check_file
from tasks.data import DataNotStaged
from tasks.errors import TaskError
from tasks.generators import find_generator, own_data_hashes
from tasks.needle import scoring
from tasks.needle.needles import NeedleGenerator, listed
from tasks.needle.spec import NeedleSpec
from tasks.preview import show_sample
from tasks.registry import load_suite, resolve, spellings
from tasks.starter import BASE, write_starter
from tasks.task_files import load_yaml
from tasks.text.patterns import from_pattern
from tasks.text.planting import join_prompt
from tasks.text.tokenizers import encode

SPEC: dict[str, Any] = {
    "task": "mine",
    "length": 700,
    "haystack": "essay",
    "key": "words",
    "value": {"kind": "numbers", "digits": 6},
    "needle": "The code of {key} is {value}.",
    "question": "What is the code of {key}?",
    "answer_prefix": "The code of {key} is",
    "generated_tokens": 20,
}
OWN_TEXT = " ".join(f"Sentence number {word} tells of rivers and hills." for word in "abcdefghijklmnopqrstuvwxyz" * 9)


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer("metaspace")


@pytest.fixture(scope="module")
def tokenizer_folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def no_files_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "_infos", {})


def generator(tokenizer: Any, folder: Path = Path(), **fields: Any) -> NeedleGenerator:
    return NeedleGenerator(NeedleSpec.parse({**SPEC, **fields}, folder), tokenizer)


def prompt_of(doc: dict[str, Any]) -> str:
    return join_prompt(doc["input"], doc["gen_prefix"])


def write_task(folder: Path, name: str = "mine", top: str = "", **fields: Any) -> Path:
    """A task's file with one field a line, so that a field's line can be told."""
    spec = {**SPEC, "task": name, "lengths": [700], **fields}
    spec.pop("length")
    lines = [f"    {field}: {json.dumps(value)}" for field, value in spec.items() if value is not None]
    generation = {"until": ["\n"], "max_gen_toks": spec["generated_tokens"]}
    file = folder / f"{name}.yaml"
    file.write_text(
        f"include: {BASE}\ntask: {name}\n{top}generation_kwargs: {json.dumps(generation)}\n"
        "dataset_kwargs:\n  spec:\n" + "\n".join(lines) + "\n"
    )
    return file


SHAPES: dict[str, dict[str, Any]] = {
    "one needle in noise": {"haystack": "noise"},
    "false needles": {"haystack": "needle", "keys": 2},
    "false needles of UUIDs": {"haystack": "needle", "key": "uuids", "value": "uuids"},
    "two of four keys, two values each": {
        "keys": 4,
        "values": 2,
        "queries": 2,
        "question": "What are the {count} codes of {keys}?",
        "answer_prefix": "They are",
    },
    "distractors on a grid": {
        "keys": 2,
        "distractors": 3,
        "distractor": "Nobody trusts {key}: {value}.",
        "depths": {"grid": 5},
    },
    "listed keys and values": {"key": ["Rome", "Oslo"], "value": ["jasper", "cobalt", "umber"], "keys": 2},
    "a pattern without a question": {
        "value": {"kind": "regex", "pattern": "[A-Z]{3}-\\d{3}(x|y)?"},
        "question": "",
        "opening": "Read.",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_fill_the_length_and_hold_each_answer_once(tokenizer: Any, shape: str) -> None:
    made = generator(tokenizer, **SHAPES[shape])
    spec = made.spec
    for index in range(10):
        doc = made.sample(index)
        prompt = prompt_of(doc)
        assert len(encode(tokenizer, prompt)) == doc["prompt_tokens"] <= 700 - 20
        assert doc["fill"] > 0.98
        assert len(doc["outputs"]) == spec.queries * spec.values
        assert [prompt.lower().count(answer.lower()) for answer in doc["outputs"]] == [1] * len(doc["outputs"])
        assert doc["depth"] == sorted(doc["depth"])
        assert doc["needle_tokens"] == sorted(doc["needle_tokens"])
        assert len(doc["keys"]) == spec.keys * spec.values + spec.distractors
        ids = encode(tokenizer, prompt)
        for key, value, position in zip(doc["keys"], doc["values"], doc["needle_tokens"], strict=True):
            said = tokenizer.decode(ids[position:], clean_up_tokenization_spaces=False).lstrip()
            assert said.startswith((f"The code of {key} is {value}.", f"Nobody trusts {key}: {value}."))


def test_a_sample_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    for shape in SHAPES.values():
        made = generator(tokenizer, **shape)
        random.seed(1)
        forwards = [made.sample(index) for index in range(4)]
        random.seed(2)
        assert [made.sample(index) for index in reversed(range(4))] == forwards[::-1]
        assert generator(tokenizer, **shape, samples=4).sample(3) == forwards[3]
        assert generator(tokenizer, **shape, seed=9).sample(3)["sample_hash"] != forwards[3]["sample_hash"]


def test_keys_give_way_to_listed_values(tokenizer: Any) -> None:
    """`tin` and `red` stand inside many a word pair; the key is then drawn again."""
    made = generator(tokenizer, value=["tin", "red"], keys=2, haystack="noise", needle="{key}: {value}.")
    for index in range(40):
        prompt = prompt_of(made.sample(index)).lower()
        assert [prompt.count(value) for value in ("tin", "red")] == [1, 1]
    with pytest.raises(TaskError, match="mine: key: cannot draw 2 different listed keys"):
        generator(tokenizer, value=["tin", "red"], key=["rating", "bread"], keys=2, haystack="noise").sample(0)


def test_depths_are_as_written(tokenizer: Any) -> None:
    grid = generator(tokenizer, keys=2, depths={"grid": 5}, haystack="noise")
    for index in range(7):
        doc = grid.sample(index)
        assert doc["depth"][doc["keys"].index(doc["query"])] == index % 5 / 4
    listed_depths = [0.0, 0.5, 1.0]
    docs = [generator(tokenizer, keys=2, depths=listed_depths).sample(index) for index in range(12)]
    assert all(set(doc["depth"]) < set(listed_depths) and len(set(doc["depth"])) == 2 for doc in docs)
    top, bottom = (generator(tokenizer, depths=[depth]).sample(0) for depth in (0, 1))
    assert top["input"].startswith("The code of")
    assert re.search(r"The code of \S+ is \d+\.\nWhat is the code of \S+\?$", bottom["input"])


def test_a_haystack_may_be_a_text_of_ones_own(tokenizer: Any, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [{"body": OWN_TEXT[:4000], "id": 1}, {"body": OWN_TEXT[4000:], "id": 2}]
    (tmp_path / "notes.txt").write_text(OWN_TEXT)
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "notes.parquet")
    for haystack in (
        {"file": "notes.txt"},
        *({"file": f"notes.{end}", "field": "body"} for end in ("jsonl", "parquet")),
    ):
        doc = generator(tokenizer, tmp_path, haystack=haystack).sample(0)
        assert doc["input"].count("tells of rivers") > 10
        assert doc["fill"] > 0.98


def test_an_own_haystack_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(OWN_TEXT)
    file = write_task(tmp_path, haystack={"file": "notes.txt"})
    first = own_data_hashes(resolve(f"{file}@700").config)
    (tmp_path / "notes.txt").write_text(OWN_TEXT + " More.")
    second = own_data_hashes(resolve(f"{file}@700").config)
    assert list(first) == list(second) == ["notes.txt"]
    assert first != second
    assert own_data_hashes(resolve("niah_single_1@700").config) == {}


def test_patterns_are_drawn_so_that_they_match() -> None:
    for pattern in (r"[A-Z]{2}\d{4}", r"(red|green)-\w+", r"a[^a-z]b?", r"^x.{3}$", "[0-9a-f]{8}"):
        draw = from_pattern(pattern)
        assert all(re.fullmatch(pattern, draw(random.Random(seed))) for seed in range(50))
    for pattern, message in (("(a", "not a regular expression"), (r"(?=a)b", "not supported"), (r"(a)\1", "not supp")):
        with pytest.raises(ValueError, match=message):
            from_pattern(pattern)


@pytest.mark.parametrize(
    ("rule", "answer", "expected"),
    [
        ("all", "x\n 11 and\n 22", 1.0),
        ("all", "22", 0.5),
        ("any", "22", 1.0),
        ("any", "33", 0.0),
        ("first_line", "\n 11, 22\n", 1.0),
        ("first_line", "none\n11 22", 0.0),
        ("exact", " 11.\nmore", 1.0),
        ("exact", "it is 11", 0.0),
        ("exact", "", 0.0),
        ("exact_match", "11 ", 1.0),
        ("string_match_all", "22\x00 11", 1.0),
        ("string_match_part", "no\n\n22", 1.0),
        ("contains", "is 22", 1.0),
        ("contains", "2 2", 0.0),
        ("f1", "\nthe 11, and 22.\n33", 2 * 2 / (3 + 2)),
        ("f1", "33", 0.0),
        ("f1", "", 0.0),
    ],
)
def test_scoring_is_as_named(rule: str, answer: str, expected: float) -> None:
    assert scoring.score({"scoring": rule, "outputs": ["11", "22"]}, [answer]) == {"acc": expected}
    assert scoring.score({"scoring": [rule], "outputs": ["11", "22"]}, [answer]) == {rule: expected}


def test_several_rules_are_metrics_of_lm_eval(tmp_path: Path, tokenizer_folder: str) -> None:
    rules = ["f1", "exact_match", "string_match_all", "contains"]
    entries = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in rules]
    file = write_task(tmp_path, scoring=rules)
    (error,) = check_file(file, tokenizer_folder).errors
    assert "metric_list: is not what the spec's scoring gives; write metric_list: [{metric: f1, aggreg" in error
    file.write_text(file.read_text() + f"metric_list: {json.dumps(entries)}\n")
    assert check_file(file, tokenizer_folder).errors == ()
    task = resolve(f"{file}@700")
    assert task.metrics == tuple(rules)

    class Answers(LM):
        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any: ...
        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any: ...
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
            return [" ".join(["no", *request.doc["outputs"]][place % 2 :]) for place, request in enumerate(requests)]

    result = evaluate_tasks(Answers(), [task.config], {"tokenizer": tokenizer_folder, "max_samples": 4})
    found = {key: value for key, value in result["results"][task.lm_eval_name].items() if key.endswith(",none")}
    assert found == {
        "f1,none": (2 / 3 + 1) / 2,
        "exact_match,none": 0.5,
        "string_match_all,none": 1.0,
        "contains,none": 1.0,
        **{key: value for key, value in found.items() if "stderr" in key},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metric_list: acc", r"metric_list: must be a list such as \[\{metric: acc, aggregation: mean, .*got 'acc'"),
        ("metric_list: []", r"metric_list: must be a list such as"),
        ("metric_list: [{metric: f1}]", r":4:1: metric_list: is not what the spec's scoring gives; write"),
        ("num_fewshot: 2", r":4:1: num_fewshot: documents fill their length, so there is no room"),
    ],
)
def test_metrics_and_examples_that_a_task_cannot_have_are_refused(
    tmp_path: Path, tokenizer_folder: str, text: str, message: str
) -> None:
    file = write_task(tmp_path)
    file.write_text(file.read_text() + text + "\n")
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(message.replace(":4:", r":\d+:"), error), error


def test_several_keys_are_named_as_in_a_sentence() -> None:
    assert [listed(("a", "b", "c")[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b, and c"]


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
        ({"haystack": "essays"}, ("haystack",), "no such haystack 'essays'; did you mean 'essay'"),
        ({"haystack": {"file": "absent.txt"}}, ("haystack", "file"), "absent.txt does not exist; the path is relative"),
        ({"haystack": {"file": "a.doc"}}, ("haystack", "file"), "ending must be one of .txt, .md, .jsonl, .parquet"),
        ({"haystack": {"hub": "a/b", "colum": "x"}}, ("haystack", "colum"), "unknown field"),
        ({"value": "number"}, ("value",), "no such kind 'number'; did you mean 'numbers'"),
        ({"value": {"kind": "regex"}}, ("value",), "'pattern|pattern: is missing"),
        ({"value": {"kind": "regex", "pattern": "[a"}}, ("value", "pattern"), "not a regular expression"),
        ({"value": {"kind": "numbers", "digits": 0}}, ("value", "digits"), "must be a whole number from 1 to 100"),
        ({"value": {"kind": "file", "path": "absent.txt"}}, ("value", "path"), "absent.txt cannot be read"),
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
        ({"lengths": [700, 700]}, ("lengths", 1), r"lengths\[1\]: 700 stands there twice"),
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
        ("task: mine\n  bad: [", r"mine.yaml:2:6: not YAML: "),
        ("- task", "must be a mapping of fields"),
        ("include: absent.yaml\ntask: mine", r"mine.yaml:1:1: include: .*absent.yaml: cannot be read"),
        (f"include: {BASE}\ntask: mine", r"dataset_kwargs: must be a mapping with 'spec'"),
        (
            f"include: {BASE}\ntask: niah_single_1\ndataset_kwargs: {{spec: 1}}",
            r"mine.yaml:2:1: task: .* of this project",
        ),
        (
            f"include: {BASE}\ntask: mine\ntask: mine\ndataset_kwargs: {{spec: 1}}",
            r"mine.yaml:3:1: task: stands here twice",
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
        ("task: mine\n\tx: 1", r"mine.yaml:2:1: not YAML: "),
        *(
            (f"include: {BASE}\ntask: mine\n{line}\ndataset_kwargs: {{spec: {{}}}}", rf"mine.yaml:3:\d+: {message}")
            for line, message in (
                ("metadata: 5", "metadata: must be a mapping of fields, got 5"),
                ("metadata: {data: 7}", r"metadata\.data: must be a list of staged files, got 7"),
                ("metadata: {version: x}", r"metadata\.version: must be a number, got 'x'"),
                ("generation_kwargs: 5", "generation_kwargs: must be a mapping of fields, got 5"),
                ("process_results: !function no.such", "process_results: !function no.such: cannot be imported"),
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
    file.write_text(file.read_text().replace('"max_gen_toks": 20', '"max_gen_toks": 21'))
    (error,) = check_file(file, tokenizer_folder).errors
    assert error.startswith(f"{file}:3:")
    assert "is 21, but the spec's generated_tokens is 20" in error


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
    made = generator(tokenizer, length=least, samples=9)
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
        "notes.parquet": r"notes.parquet: no column 'text'; did you mean 'content'|known: content",
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
        generator(Nothing(), haystack="noise").sample(0)
    file = write_task(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(tmp_path))
        with pytest.raises(DataNotStaged, match=r"essays.json.*run_eval.py stage"):
            check_file(file, tokenizer_folder)


class Reader(LM):
    """Finds the code of the asked key in the prompt."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        answers = []
        for request in requests:
            prompt = request.args[0]
            key = prompt.rsplit(" ", 2)[1]
            answers.append(" " + dict(re.findall(r"The code of (\S+) is (\w+)\.", prompt))[key])
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Any]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def test_plain_lm_eval_asks_the_same_questions(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "notes.txt").write_text(OWN_TEXT)
    file = write_task(tmp_path, haystack={"file": "notes.txt"}, lengths=[600, 700], samples=3, keys=2)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False, metadata={"tokenizer": tokenizer})
    run = evaluate(lm=Reader(), task_dict=manager.load(["mine"]), bootstrap_iters=0)
    docs = [sample["doc"] for sample in run["samples"]["mine"]]
    assert run["results"]["mine"]["acc,none"] == 1.0
    assert [doc["length"] for doc in docs] == [600] * 3 + [700] * 3
    for sample in run["samples"]["mine"]:
        assert sample["arguments"][0][0] == prompt_of(sample["doc"])
    for length in (600, 700):
        made = find_generator(resolve(f"{file}@{length}").config, tokenizer)
        assert made is not None
        hashes = [made.sample(index)["sample_hash"] for index in range(3)]
        assert hashes == [doc["sample_hash"] for doc in docs if doc["length"] == length]


def test_a_file_is_run_once_a_length_and_known_by_name_afterwards(tmp_path: Path) -> None:
    file = write_task(tmp_path, lengths=[600, 700], samples=4)
    assert spellings(str(file)) == [f"{file}@600", f"{file}@700"]
    assert spellings(f"{file}@650") == [f"{file}@650"]
    assert spellings("niah_single_1@600") == ["niah_single_1@600"]
    task = resolve(f"{file}@650", seed=3)
    assert (task.info.name, task.length, task.samples, task.seed) == ("mine", 650, 4, 3)
    assert "lengths" not in task.config["dataset_kwargs"]["spec"]
    assert resolve("mine@600").lm_eval_name == "gdn2_mine_600"
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(TaskError, match=r"task 'mine' is the name of .*mine.yaml as well"):
        resolve(f"{write_task(other)}@600")
    with pytest.raises(TaskError, match="must be a whole number, got 'x'"):
        resolve(f"{file}@x")


def test_a_suite_names_a_task_file_beside_it(tmp_path: Path) -> None:
    write_task(tmp_path)
    column = "{task: mine.yaml, length: 700, metric: acc, label: '700', group: G}"
    (tmp_path / "suite.yaml").write_text(f"suite: s\ncolumns: [{column}]\n")
    suite = load_suite(tmp_path / "suite.yaml")
    assert suite.columns[0].task == "mine"
    assert suite.resolve()[0].samples == 100


def test_an_own_file_may_be_of_another_family(tmp_path: Path, tokenizer_folder: str) -> None:
    base = BASE.parent.parent / "editing" / "edit_retention" / "_base.yaml"
    spec = "{task: mine, probe: retention, lengths: [900, 1000], keys: 3, edited: 1, distance: 200, samples: 4}"
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {base}\ntask: mine\ndataset_kwargs: {{spec: {spec}}}\nmetadata: {{version: 1.0}}\n")
    report = check_file(file, tokenizer_folder)
    assert report.errors == ()
    assert [(check.length, check.occurrences) for check in report.lengths] == [(900, (1, 1)), (1000, (1, 1))]
    build = resolve(f"{file}@900").config["custom_dataset"]
    docs = build({**load_yaml(file)["dataset_kwargs"]["spec"], "samples": 2}, tokenizer=tokenizer_folder)["test"]
    assert docs["length"][:] == [900, 900, 1000, 1000]
    file.write_text(file.read_text().replace("edited: 1", "edited: 3"))
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(r"mine.yaml:3:\d+: dataset_kwargs.spec.edited: field 'edited' must leave one", error)


def test_a_ruler_task_of_ones_own_is_checked_too(tmp_path: Path, tokenizer_folder: str) -> None:
    base = BASE.parent.parent / "ruler" / "_niah.yaml"
    spec = "{task: mine, length: 900, haystack: noise, key: uuids, value: words, needles: 3, samples: 4}"
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {base}\ntask: mine\ndataset_kwargs: {{spec: {spec}}}\nmetadata: {{version: 1.0}}\n")
    report = check_file(file, tokenizer_folder)
    assert report.errors == ()
    assert report.lengths[0].prompt_tokens == (900 - 128, 900 - 128)
    file.write_text(file.read_text().replace("value: words", "value: wrods"))
    assert re.search(
        r"mine.yaml:3:\d+: dataset_kwargs.spec.value: field 'value'", check_file(file, tokenizer_folder).errors[0]
    )


def test_the_written_file_is_right_and_is_not_overwritten(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_starter("door_codes", tmp_path)
    report = check_file(file, tokenizer_folder, samples=2)
    assert report.errors == ()
    assert [check.length for check in report.lengths] == [1024, 2048]
    assert report.collisions == 0
    assert (
        show_sample(f"{file}@1024", tokenizer_folder)["query"]
        in show_sample(f"{file}@1024", tokenizer_folder)["prompt"]
    )
    with pytest.raises(TaskError, match=r"door_codes.yaml exists; choose another name"):
        write_starter("door_codes", tmp_path)
    with pytest.raises(TaskError, match="is a task of this project"):
        write_starter("mqar", tmp_path)
    with pytest.raises(TaskError, match="a name has letters"):
        write_starter("../x", tmp_path)
    with pytest.raises(TaskError, match="choose another --folder"):
        write_starter("x", tmp_path / "absent")


def test_every_field_of_the_written_file_is_checked(tmp_path: Path) -> None:
    """The comments of the file name every field of a spec, so that nobody has to read the code for them."""
    text = write_starter("door_codes", tmp_path).read_text()
    spec = yaml.safe_load(text.replace("!function", ""))["dataset_kwargs"]["spec"]
    from tasks.needle.spec import FIELDS

    assert set(FIELDS) - set(spec) == {"length", "distractor"}
    assert "distractor`" in text


def test_the_fields_of_a_task_are_lm_evals() -> None:
    assert set(own.LM_EVAL_FIELDS) == set(TaskConfig.__annotations__)


def test_the_command_line_writes_checks_and_shows_a_task(
    tmp_path: Path, tokenizer_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tasks", "new", "door_codes"]) == 0
    assert "tasks check door_codes.yaml" in capsys.readouterr().out
    assert cli.main(["tasks", "new", "door_codes"]) == 2
    assert "error: door_codes.yaml exists" in capsys.readouterr().err
    assert cli.main(["tasks", "check", "door_codes.yaml", "--tokenizer", tokenizer_folder]) == 0
    out = capsys.readouterr().out
    for text in ("Remember every number.", "Which number?", "1,024", "once", "3 of 100", "OK door_codes.yaml"):
        assert text in out
    assert cli.main(["tasks", "show", "door_codes.yaml", "--tokenizer", tokenizer_folder, "--index", "1"]) == 0
    assert "sample 1" in capsys.readouterr().out
    file = tmp_path / "door_codes.yaml"
    file.write_text(file.read_text().replace("haystack: essay", "haystak: essay").replace("keys: 4", "keys: four"))
    assert cli.main(["tasks", "check", "door_codes.yaml"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "door_codes.yaml:17:5: dataset_kwargs.spec.haystak: unknown field; did you mean 'haystack'?"
    assert err[1].startswith("door_codes.yaml:24:5: dataset_kwargs.spec.keys: ")
    assert err[2] == "error: door_codes.yaml: 2 mistakes, listed above"
    assert cli.main(["run", "gdn2-tiny", "--tasks", "door_codes.yaml"]) == 2
    assert "door_codes.yaml:17:5" in capsys.readouterr().err


def test_a_run_of_a_file_leaves_a_record_that_knows_its_definition(tmp_path: Path) -> None:
    checkpoint = small_checkpoint(tmp_path / "small")
    text = {"file": "notes.txt"}
    (tmp_path / "notes.txt").write_text(OWN_TEXT)
    file = write_task(tmp_path, haystack=text, lengths=[200, 260], samples=2, generated_tokens=4)
    options = RunOptions(checkpoint=str(checkpoint), tasks=(str(file),), output=tmp_path / "out", batch_size=2)
    record, _ = run(options, Console(file=io.StringIO()))
    assert [(cell.task, cell.length, cell.scores["acc"].n) for cell in record.cells] == [
        ("mine", 200, 2),
        ("mine", 260, 2),
    ]
    assert [list(cell.data) for cell in record.cells] == [["notes.txt"]] * 2
    assert len({cell.spec for cell in record.cells}) == 1
    assert record.protocol["tasks"][0]["spec"] == record.cells[0].spec

    column = "{task: mine.yaml, length: 200, metric: acc, label: '200', group: G, samples: 2}"
    (tmp_path / "suite.yaml").write_text(f"suite: s\ncolumns: [{column}]\n")
    table = build_table(load_suite(tmp_path / "suite.yaml"), [(tmp_path, record)])
    assert [entry is not None for row in table.rows for entry in row.entries] == [True]
    assert table.notes == []
    own.known().clear()
    write_task(tmp_path, haystack=text, lengths=[200], generated_tokens=4, question="Say the code of {key}.")
    table = build_table(load_suite(tmp_path / "suite.yaml"), [(tmp_path, record)])
    assert table.notes == [f"another definition of mine ({record.cells[0].spec}) than in its file now"]
