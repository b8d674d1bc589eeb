"""Retrieval tasks from a YAML file: every sample stands alone, fills its length and holds its answers once."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from needle_tasks import OWN_TEXT, needle_generator, prompt_of, write_task

from tasks.errors import TaskError
from tasks.generators import own_data_hashes
from tasks.needle.needles import listed
from tasks.registry import resolve
from tasks.text.patterns import from_pattern
from tasks.text.tokenizers import encode

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")


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
    made = needle_generator(tokenizer, **SHAPES[shape])
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
        made = needle_generator(tokenizer, **shape)
        random.seed(1)
        forwards = [made.sample(index) for index in range(4)]
        random.seed(2)
        assert [made.sample(index) for index in reversed(range(4))] == forwards[::-1]
        assert needle_generator(tokenizer, **shape, samples=4).sample(3) == forwards[3]
        assert needle_generator(tokenizer, **shape, seed=9).sample(3)["sample_hash"] != forwards[3]["sample_hash"]


def test_keys_give_way_to_listed_values(tokenizer: Any) -> None:
    """`tin` and `red` stand inside many a word pair; the key is then drawn again."""
    made = needle_generator(tokenizer, value=["tin", "red"], keys=2, haystack="noise", needle="{key}: {value}.")
    for index in range(40):
        prompt = prompt_of(made.sample(index)).lower()
        assert [prompt.count(value) for value in ("tin", "red")] == [1, 1]
    with pytest.raises(TaskError, match="mine: key: cannot draw 2 different listed keys"):
        needle_generator(tokenizer, value=["tin", "red"], key=["rating", "bread"], keys=2, haystack="noise").sample(0)


def test_depths_are_as_written(tokenizer: Any) -> None:
    grid = needle_generator(tokenizer, keys=2, depths={"grid": 5}, haystack="noise")
    for index in range(7):
        doc = grid.sample(index)
        assert doc["depth"][doc["keys"].index(doc["query"])] == index % 5 / 4
    listed_depths = [0.0, 0.5, 1.0]
    docs = [needle_generator(tokenizer, keys=2, depths=listed_depths).sample(index) for index in range(12)]
    assert all(set(doc["depth"]) < set(listed_depths) and len(set(doc["depth"])) == 2 for doc in docs)
    top, bottom = (needle_generator(tokenizer, depths=[depth]).sample(0) for depth in (0, 1))
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
        doc = needle_generator(tokenizer, tmp_path, haystack=haystack).sample(0)
        assert doc["input"].count("tells of rivers") > 10
        assert doc["fill"] > 0.98


def test_files_of_keys_and_values_and_own_functions_are_hashed(tmp_path: Path) -> None:
    for name in ("keys.txt", "values.txt"):
        (tmp_path / name).write_text(f"{name[:2]}one\n{name[:2]}two\n")
    (tmp_path / "scores.py").write_text("def mine(doc, results):\n    return {'acc': 0.0}\n\n\nmean = max\n")
    kinds: dict[str, Any] = {kind: {"kind": "file", "path": f"{kind}s.txt"} for kind in ("key", "value")}
    file = write_task(tmp_path, top="process_results: !function scores.mine\n", haystack="noise", **kinds)
    metric = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    file.write_text(file.read_text() + metric)
    found = own_data_hashes(resolve(f"{file}@700").config)
    assert set(found) == {"keys.txt", "values.txt", "scores.py"}
    for name in found:
        with (tmp_path / name).open("a") as stream:
            stream.write("\n# more\n")
        changed = own_data_hashes(resolve(f"{file}@700").config)
        assert {other for other in found if found[other] != changed[other]} == {name}
        found = changed


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


def test_several_keys_are_named_as_in_a_sentence() -> None:
    assert [listed(("a", "b", "c")[:count]) for count in (1, 2, 3)] == ["a", "a and b", "a, b, and c"]
