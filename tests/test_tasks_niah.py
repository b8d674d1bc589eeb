"""The needle generator: every sample stands alone, is filled to the token, and holds what it says."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from task_data import essay_text, train_tokenizer, write_data
from transformers import PreTrainedTokenizerFast

from tasks.errors import TaskError
from tasks.ruler.build import build, make_generator
from tasks.ruler.exact import Generator
from tasks.ruler.niah import draw_items
from tasks.ruler.spec import VARIANTS, RulerSpec
from tasks.ruler.templates import DEPTHS
from tasks.text.filling import fill
from tasks.text.tokenizers import encode, prefix_ids


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module", params=["bytes", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(request.param)


def generator(tokenizer: Any, task: str = "niah_single_2", length: int = 512, **fields: Any) -> Generator:
    made = make_generator({"task": task, "length": length, **fields}, tokenizer)
    assert isinstance(made, Generator)
    return made


def prompt_of(doc: dict[str, Any]) -> str:
    return f"{doc['input']} {doc['gen_prefix']}"


CELLS = [("niah_single_1", 300)] + [(task, length) for task in VARIANTS for length in (1024, 2048)]


@pytest.mark.parametrize(("task", "length"), CELLS)
def test_samples_fill_the_length_to_the_token_and_never_exceed_it(tokenizer: Any, task: str, length: int) -> None:
    made = generator(tokenizer, task, length)
    docs = [made.sample(index) for index in range(40)]
    used = [len(tokenizer(prompt_of(doc)).input_ids) + 128 for doc in docs]
    assert [doc["prompt_tokens"] + 128 for doc in docs] == used
    assert max(used) <= length
    assert min(doc["fill"] for doc in docs) > 0.98
    assert sum(count == length for count in used) >= 38


@pytest.mark.parametrize("prefix", ["none", "bos", "eos"])
def test_the_budget_counts_the_context_prefix(tokenizer: Any, prefix: str) -> None:
    spec = {"task": "niah_single_2", "length": 512}
    doc = make_generator(spec, tokenizer, context_prefix=prefix).sample(0)
    assert len(encode(tokenizer, prompt_of(doc), prefix)) == doc["prompt_tokens"] == 512 - 128


def test_a_sample_does_not_depend_on_its_neighbours(tokenizer: Any) -> None:
    made = generator(tokenizer, "niah_multikey_1")
    random.seed(1)
    forwards = [made.sample(index) for index in range(6)]
    random.seed(2)
    backwards = [made.sample(index) for index in reversed(range(6))]
    alone = generator(tokenizer, "niah_multikey_1", samples=6).sample(4)
    assert forwards == backwards[::-1]
    assert alone == forwards[4]
    assert len({doc["sample_hash"] for doc in forwards}) == 6
    assert forwards[4]["sample_hash"] != generator(tokenizer, "niah_multikey_1", seed=7).sample(4)["sample_hash"]


@pytest.mark.parametrize("task", VARIANTS)
def test_needles_stand_where_the_document_says(tokenizer: Any, task: str) -> None:
    made = generator(tokenizer, task, 1024)
    for index in range(10):
        doc = made.sample(index)
        prompt = prompt_of(doc)
        ids = encode(tokenizer, prompt)
        keys = [key for key in doc["keys"] for _ in range(VARIANTS[task].values)]
        needles = list(zip(keys, doc["values"], doc["needle_tokens"], strict=True))
        assert doc["needle_tokens"] == sorted(doc["needle_tokens"])
        assert set(doc["outputs"]) <= set(doc["values"])
        assert all(key in doc["query"] for key in (doc["keys"] if task == "niah_multiquery" else [doc["query"]]))
        for key, value, position in needles:
            kind = VARIANTS[task].value
            needle = f"One of the special magic {kind} for {key} is: {value}."
            assert prompt.count(value) == 1
            assert prompt.count(needle) == 1
            after = tokenizer.decode(ids[position:], clean_up_tokenization_spaces=False)
            assert after.lstrip().startswith(needle)


def test_depth_is_drawn_from_the_list_and_decides_the_place(tokenizer: Any) -> None:
    assert DEPTHS[:5] == (0, 3, 5, 8, 10)
    assert DEPTHS[-3:] == (95, 97, 100)
    assert len(set(DEPTHS)) == 40
    made = generator(tokenizer, "niah_single_1", 2048)
    docs = [made.sample(index) for index in range(40)]
    for doc in docs:
        assert round(doc["depth"][0] * 100) in DEPTHS
        context = doc["input"].split("\n")[1:-1]
        place = next(i for i, line in enumerate(context) if line.startswith("One of the special"))
        assert place == int((len(context) - 1) * doc["depth"][0])
    assert len({doc["depth"][0] for doc in docs}) > 15


def test_the_template_is_rulers_with_one_value() -> None:
    doc = generator(train_tokenizer("bytes"), "niah_single_1", 512).sample(0)
    key = doc["query"]
    head, question = doc["input"].split("\n")[0], doc["input"].split("\n")[-1]
    assert head == (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards."
    )
    assert question == f"What is the special magic number for {key} mentioned in the provided text?"
    assert doc["gen_prefix"] == f"The special magic number for {key} mentioned in the provided text is"
    assert re.fullmatch(r"\d{7}", doc["outputs"][0])
    uuid = generator(train_tokenizer("bytes"), "niah_single_3", 512).sample(0)
    assert "A special magic uuid is hidden" in uuid["input"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", uuid["outputs"][0])


def test_the_corpus_repeats_when_it_is_too_short(tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "essays.json").write_text(json.dumps({"text": essay_text(12)}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(tmp_path))
        doc = generator(tokenizer, "niah_single_2", 2048).sample(0)
    assert doc["fill"] > 0.98


def test_a_value_of_the_haystack_is_drawn_again() -> None:
    first = draw_items(random.Random(3), "numbers", 1, absent_from="")[0]
    second = draw_items(random.Random(3), "numbers", 1, absent_from=f"tel. {first}")[0]
    assert first != second


def test_filling_leaves_out_a_word_when_no_count_fits() -> None:
    costs = [1, 2, 1, 20, 2, 1, 2, 1]

    def measure(num_words: int, omitted: tuple[int, ...]) -> int:
        return 11 + sum(
            cost for index, cost in enumerate(costs[:num_words]) if index not in omitted
        )  # 1 above estimate

    for budget in range(12, 22):
        found = fill(costs=costs, unit_starts=[0], frame_tokens=10, budget=budget, measure=measure)
        assert found is not None
        assert found.num_tokens == budget
        assert measure(found.num_words, found.omitted) == budget


def test_a_length_below_the_template_names_the_least_that_works() -> None:
    tokenizer = train_tokenizer("bytes")
    with pytest.raises(TaskError, match=r"niah_multikey_1@200: too short .* least length that works is \d+") as error:
        generator(tokenizer, "niah_multikey_1", 200, samples=20).sample(0)
    least = int(str(error.value).rsplit(" ", 1)[1])
    made = generator(tokenizer, "niah_multikey_1", least, samples=20)
    assert all(made.sample(index)["prompt_tokens"] + 128 <= least for index in range(20))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"task": "niah_single_1", "length": 512, "sample": 3}, "unknown field 'sample'"),
        ({"task": "niah_single_1"}, "'length' is missing"),
        ({"task": "niah_single_1", "length": "512"}, "'length' must be a positive whole number"),
        ({"task": "niah_single_1", "length": 512, "samples": 0}, "'samples' must be"),
        ({"task": "niah_single_1", "length": 512, "haystack": "essay"}, "fixes haystack"),
        ({"task": "mine", "length": 512}, "needs `haystack`"),
        ({"task": "mine", "length": 512, "haystack": "hay"}, "'haystack' must be one of noise, essay, needle"),
        ({"task": "mine", "length": 512, "haystack": "noise", "needles": 41}, "at most 40 needles"),
    ],
)
def test_a_wrong_spec_names_its_field(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        RulerSpec.parse(spec)


def test_a_new_needle_task_needs_no_python(tokenizer: Any) -> None:
    spec = {"task": "mine", "length": 1024, "haystack": "noise", "key": "uuids", "value": "words", "needles": 3}
    doc = make_generator(spec, tokenizer).sample(0)
    assert len(set(doc["keys"])) == 3
    assert "A special magic word is hidden" in doc["input"]


def test_build_needs_a_tokenizer_and_draws_no_more_than_asked(tokenizer: Any) -> None:
    spec = {"task": "niah_single_1", "length": 512, "samples": 9}
    with pytest.raises(TaskError, match="--metadata"):
        build(spec)
    assert len(build(spec, tokenizer=tokenizer, max_samples=2, other_metadata=1)["test"]) == 2


def test_prefix_policies_are_told_apart() -> None:
    plain, llama = train_tokenizer("bytes"), train_tokenizer("metaspace")
    assert prefix_ids(plain) == []
    assert prefix_ids(llama) == [1]
    assert prefix_ids(llama, "none") == []
    assert prefix_ids(plain, "bos") == [1]
    assert prefix_ids(plain, "eos") == [2]
    with pytest.raises(TaskError, match=r"must be one of tokenizer, none, bos, eos, .*did you mean 'bos'"):
        prefix_ids(plain, "BOS")


def test_check_finds_the_one_sample_that_does_not_fit(tokenizer: Any) -> None:
    """The least length of the error works for all samples, one token less does not, and check needs no sample made."""
    with pytest.raises(TaskError, match="the least length that works is") as caught:
        generator(tokenizer, "niah_single_1", 150, samples=50).check()
    least = int(str(caught.value).rsplit(" ", 1)[1])
    made = generator(tokenizer, "niah_single_1", least, samples=50)
    made.check()
    for index in range(50):
        assert made.sample(index)["prompt_tokens"] + 128 <= least
