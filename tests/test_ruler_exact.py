"""The generator `exact` on all 13 tasks: filled to the token, one right answer, and nothing shared between samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruler_data import TASKS, write_ruler_data
from task_data import train_tokenizer

from tasks.errors import TaskError
from tasks.ruler.build import build, make_generator
from tasks.ruler.exact import Generator
from tasks.ruler.spec import RulerSpec
from tasks.scoring import score_any, score_needles
from tasks.text.tokenizers import TokenCounter, encode

LENGTHS = dict.fromkeys(TASKS, (1024, 3000)) | {"cwe": (1200, 4500), "qa_2": (2048, 4500)}
MILLION = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = write_ruler_data(tmp_path_factory.mktemp("ruler"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield folder


@pytest.fixture(scope="module", params=["bytes", "metaspace"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return train_tokenizer(request.param)


def generator(tokenizer: Any, task: str, length: int, **fields: Any) -> Generator:
    made = make_generator({"task": task, "length": length, **fields}, tokenizer)
    assert isinstance(made, Generator)
    return made


def prompt_of(doc: dict[str, Any]) -> str:
    return f"{doc['input']} {doc['gen_prefix']}"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_filled_to_the_token_and_never_beyond(tokenizer: Any, task: str) -> None:
    for length in LENGTHS[task]:
        made = generator(tokenizer, task, length)
        generated = made.spec.generated_tokens
        docs = [made.sample(index) for index in range(8)]
        used = [len(encode(tokenizer, prompt_of(doc))) + generated for doc in docs]
        assert used == [length] * 8
        assert [doc["prompt_tokens"] + generated for doc in docs] == used
        assert {doc["fill"] for doc in docs} == {1.0}


@pytest.mark.parametrize(
    ("task", "length"),
    [*((task, length) for task in TASKS for length in (512, 65536)), ("cwe", MILLION), ("niah_multikey_2", MILLION)],
)
def test_every_task_works_from_512_tokens_to_a_million(task: str, length: int) -> None:
    tokenizer = train_tokenizer("metaspace")
    samples = 40 if length == 512 else 1
    made = generator(tokenizer, task, length, samples=samples)
    made.check()
    for doc in made.samples(samples):
        assert len(encode(tokenizer, prompt_of(doc))) + made.spec.generated_tokens == length
        assert all(answer in doc["input"] for answer in doc["outputs"][:1]) or task == "qa_2"


@pytest.mark.parametrize("task", ["cwe", "vt", "fwe", "qa_1", "niah_single_2"])
def test_the_work_of_a_sample_grows_with_its_length_only(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters that are tokenised, for a sample whose words are known: few times its own."""
    tokenizer = train_tokenizer("bytes")
    counted = 0

    def count(counter: TokenCounter, text: str) -> int:
        nonlocal counted
        counted += len(text)
        assert counter._backend is not None
        return len(counter._backend.encode(text, add_special_tokens=False))

    monkeypatch.setattr(TokenCounter, "count", count)
    for length in (1 << 14, 1 << 18):
        made = generator(tokenizer, task, length)
        made.sample(1)
        counted = 0
        assert counted < 2 * len(made.sample(2)["input"])


def test_a_short_list_has_no_example_and_a_longer_one_rulers(tokenizer: Any) -> None:
    forms = {}
    for length in (512, 1000, 2000, 6000):
        docs = generator(tokenizer, "cwe", length).samples(20)
        forms[length] = {(doc["often"], doc["seldom"], doc["input"].count("Below is a numbered list")) for doc in docs}
    assert forms == {512: {(3, 1, 1)}, 1000: {(4, 1, 2)}, 2000: {(6, 1, 2)}, 6000: {(30, 3, 2)}}
    for length, example in ((512, False), (2000, True)):
        assert {doc["example"] for doc in generator(tokenizer, "vt", length).samples(9)} == {example}


def test_documents_that_a_length_does_not_hold_give_way(tokenizer: Any) -> None:
    """First those of a HotpotQA question that its answer does not follow from, then the question itself."""
    full, short = (generator(tokenizer, "qa_2", length).samples(20) for length in (2500, 640))
    for one, other in zip(full, short, strict=True):
        assert (len(one["depth"]), len(other["depth"])) == (10, 2)
        assert one["query"] == other["query"]
        named = [other["input"].count(f"\nTitle {one['query'].split()[-1].rstrip('?')}-{place}\n") for place in (2, 7)]
        assert named == [1, 1]
    long_ones = {doc["query"] for doc in generator(tokenizer, "qa_1", 3000).samples(60) if len(doc["input"]) > 0}
    assert {doc["query"] for doc in generator(tokenizer, "qa_1", 512).samples(60)} <= long_ones


@pytest.mark.parametrize("task", TASKS)
def test_samples_stand_alone_and_point_at_their_evidence(tokenizer: Any, task: str) -> None:
    length = LENGTHS[task][0]
    made = generator(tokenizer, task, length)
    docs = made.samples(5)
    assert generator(tokenizer, task, length, samples=9).sample(3) == docs[3]
    assert len({doc["sample_hash"] for doc in docs}) == 5
    assert generator(tokenizer, task, length, seed=1).sample(3)["sample_hash"] != docs[3]["sample_hash"]
    score = score_any if task.startswith("qa") else score_needles
    for doc in docs:
        assert len(doc["depth"]) == len(doc["needle_tokens"])
        assert all(0 <= depth <= 1 for depth in doc["depth"])
        assert all(0 < position < doc["prompt_tokens"] for position in doc["needle_tokens"])
        assert score(doc, [", ".join(doc["outputs"])]) == {"acc": 1.0}
        assert score(doc, [""]) == {"acc": 0.0}
        assert score(doc, [doc["outputs"][0]])["acc"] == (1.0 if task.startswith("qa") else 1 / len(doc["outputs"]))


def test_a_chain_is_whole_and_in_order(tokenizer: Any) -> None:
    for doc in generator(tokenizer, "vt", 2048).samples(8):
        body = doc["input"].rsplit("Memorize and track", 1)[1]
        assigned = re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", body)
        assert [name for name, _ in assigned] == doc["outputs"]
        assert [source for _, source in assigned] == [doc["query"], *doc["outputs"][:-1]]
        assert doc["input"].count("Memorize and track") == 2
        assert doc["gen_prefix"].endswith(f"5 variables are assigned the value {doc['query']}, they are: ")


@pytest.mark.parametrize("length", [1200, 4500])
def test_common_words_are_those_that_stand_most_often(tokenizer: Any, length: int) -> None:
    for doc in generator(tokenizer, "cwe", length).samples(4):
        listed = doc["input"].rsplit("Memorize the ones", 1)[1].split("\n")[1]
        entries = re.findall(r"(\d+)\. (.+?)(?= \d+\. |$)", listed)
        assert [int(number) for number, _ in entries] == list(range(1, len(entries) + 1))
        times = Counter(word for _, word in entries)
        assert {word for word, _ in times.most_common(10)} == set(doc["outputs"])
        assert {times[word] for word in doc["outputs"]} == {doc["often"]}
        assert max(count for word, count in times.items() if word not in doc["outputs"]) <= doc["seldom"]


@pytest.mark.parametrize("length", [700, 3000])
def test_frequent_words_have_one_right_answer(tokenizer: Any, length: int) -> None:
    for doc in generator(tokenizer, "fwe", length).samples(6):
        coded = doc["input"].split("Find the three most frequently appeared coded words. ")[1].split("\n")[0]
        times = Counter(coded.split(" "))
        assert times.most_common(1)[0][0] == "..."
        del times["..."]
        ranked = times.most_common(4)
        assert [word for word, _ in ranked[:3]] == doc["outputs"]
        assert ranked[2][1] > ranked[3][1]


@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
def test_questions_are_the_same_at_every_length_and_their_documents_are_shown(tokenizer: Any, task: str) -> None:
    short, long = LENGTHS[task]
    for one, other in zip(
        generator(tokenizer, task, short).samples(4), generator(tokenizer, task, long).samples(4), strict=True
    ):
        assert (one["query"], one["outputs"]) == (other["query"], other["outputs"])
        numbers = [int(number) for number in re.findall(r"^Document (\d+):$", other["input"], flags=re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(other["depth"]) == (1 if task == "qa_1" else 10)
        if task == "qa_1":
            assert one["outputs"][0] in one["input"]


def test_distractors_repeat_when_the_corpus_ends(tokenizer: Any) -> None:
    doc = generator(tokenizer, "qa_1", 30_000).sample(0)
    shown = re.findall(r"^Document \d+:\n(.*)$", doc["input"], flags=re.MULTILINE)
    assert doc["fill"] == 1.0
    assert len(shown) > 72 > len(set(shown)) - 2


def test_words_of_a_long_list_stand_more_often() -> None:
    """At a million tokens there are not enough words: all stand more often, ten times as often still."""
    tokenizer = train_tokenizer("bytes")
    made = generator(tokenizer, "cwe", 1 << 20)
    problem = made.problem(0)
    assert problem.facts["often"] == 10 * problem.facts["seldom"]
    assert problem.facts["seldom"] > 3


@pytest.mark.parametrize("task", [task for task in TASKS if not task.startswith("niah")])
def test_the_least_length_of_an_error_works(task: str) -> None:
    tokenizer = train_tokenizer("bytes")
    with pytest.raises(TaskError, match=rf"{task}@200: too short .* the least length that works is \d+") as caught:
        generator(tokenizer, task, 200, samples=5).check()
    least = int(str(caught.value).rsplit(" ", 1)[1])
    made = generator(tokenizer, task, least, samples=5)
    made.check()
    assert all(made.sample(index)["prompt_tokens"] + made.spec.generated_tokens <= least for index in range(5))


def test_every_generator_is_built_by_the_same_function(tokenizer: Any) -> None:
    spec = {"task": "vt", "length": 2048, "samples": 3}
    kinds = {}
    for name in ("exact", "nvidia", "nvidia-26.3", "lm-eval"):
        docs = build({**spec, "generator": name}, tokenizer=tokenizer)["test"]
        assert docs["generator"][:] == [name] * 3
        kinds[name] = docs["sample_hash"][:]
    assert len({hashes[0] for hashes in kinds.values()}) == 4
    assert RulerSpec.parse(spec).generator == "exact"
