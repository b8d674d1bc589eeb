"""Perplexity by position: buckets are disjoint, end where they say, and add up to the document."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fakes import small_checkpoint
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from task_data import essay_text, train_tokenizer, write_data

from harness.lm.evaluate import evaluate_tasks, load_task
from harness.lm.model import GDN2LM
from tasks.errors import TaskError
from tasks.perplexity.buckets import bucket_ends, cut_at, metrics_at, parts, score
from tasks.perplexity.positions import PositionSpec, build
from tasks.preview import show_sample
from tasks.registry import load_suite, resolve
from tasks.task_files import ROOT, load_yaml
from tasks.text.tokenizers import TokenCounter, load_tokenizer


@pytest.fixture(scope="module", autouse=True)
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("staged")
    write_data(folder)
    books = [{"text": f"Book {number}. " + "It was a dark and stormy night, é.\n" * 220} for number in range(3)]
    (folder / "pg19_test.jsonl").write_text("".join(json.dumps(book) + "\n" for book in books))
    train_tokenizer("bytes").save_pretrained(folder / "tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield str(folder / "tokenizer")


def documents(tokenizer: str, **spec: Any) -> list[dict[str, Any]]:
    return list(build({"source": "essay", "length": 600, **spec}, tokenizer=tokenizer)["test"])


def test_buckets_end_at_powers_of_two_and_at_the_length() -> None:
    assert bucket_ends(256) == [256]
    assert bucket_ends(8192) == [256, 512, 1024, 2048, 4096, 8192]
    assert bucket_ends(1300) == [256, 512, 1024, 1300]
    assert bucket_ends(1030) == [256, 512, 1024]  # six tokens are no bucket
    with pytest.raises(TaskError, match="must be at least 256 tokens"):
        bucket_ends(255)


def test_cuts_stand_before_white_space_and_never_beyond_their_tokens() -> None:
    text = "one two  three\nfour five six seven"
    words = lambda piece: len(piece.split())  # noqa: E731
    cuts = cut_at(text, [1, 3, 6], words)
    assert cuts is not None
    assert [text[:cut] for cut in cuts] == ["one", "one two  three", text[:28]]
    assert cut_at(text, [7], words) == [len(text)]
    assert cut_at(text, [8], words) is None


def test_one_tokenisation_finds_the_cuts_of_bisection(tokenizer: str) -> None:
    text = essay_text(120)
    counter = TokenCounter(load_tokenizer(tokenizer))
    ends = bucket_ends(1300)
    assert cut_at(text, ends, counter.count, counter.positions) == cut_at(text, ends, counter.count)
    late = lambda piece, places: [max(0, n - 9) for n in counter.positions(piece, places)]  # noqa: E731
    cuts = cut_at(text, ends, counter.count, late)  # too many words by the estimate: counted again
    assert cuts is not None
    assert all(counter.count(text[:cut]) <= end for cut, end in zip(cuts, ends, strict=True))


def test_documents_are_disjoint_and_filled_to_a_word(tokenizer: str) -> None:
    found = documents(tokenizer)
    loaded = load_tokenizer(tokenizer)
    spans = sorted((doc["offset"], doc["offset"] + len(doc["text"])) for doc in found)
    assert len(found) > 10
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    for doc in found:
        assert doc["ends"] == [256, 512, 600]
        so_far = doc["text"].split()[0]
        assert so_far + "".join(parts(doc)) == doc["text"]
        for end, part in zip(doc["ends"], parts(doc), strict=True):
            so_far += part
            assert end - 60 < len(loaded(so_far).input_ids) <= end
        assert all(part[0].isspace() for part in parts(doc))


def test_fewer_samples_are_a_prefix_of_more(tokenizer: str) -> None:
    hashes = [doc["sample_hash"] for doc in documents(tokenizer, samples=6)]
    assert hashes[:2] == [doc["sample_hash"] for doc in documents(tokenizer, samples=2)]
    assert hashes != [doc["sample_hash"] for doc in documents(tokenizer, samples=6, seed=1)]


def test_every_tokenizer_is_given_the_same_beginnings(tokenizer: str) -> None:
    other = str(ROOT.parent / "gdn2" / "zoo" / "gdn2-tiny")
    first, second = documents(tokenizer), build({"source": "essay", "length": 600}, tokenizer=other)["test"]
    assert [doc["offset"] for doc in first] == list(second["offset"])
    assert [len(doc["text"]) for doc in first] != [len(text) for text in second["text"]]
    assert all(doc["text"][0].isalnum() for doc in first)


def test_a_book_is_never_joined_to_the_next(tokenizer: str) -> None:
    found = documents(tokenizer, source="pg19")
    assert {doc["source"] for doc in found} == {0, 1, 2}
    assert all(doc["text"].count("Book") == (doc["offset"] == 0) for doc in found)


class Linear(LM):  # type: ignore[misc]
    """Costs two nats a byte, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        self.asked = [request.args for request in requests]
        return [(-2.0 * len(continuation.encode()), False) for _, continuation in self.asked]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError


def test_every_bucket_is_asked_behind_all_text_before_it(tokenizer: str) -> None:
    task, model = resolve("essay_positions@600", samples=3), Linear()
    result = evaluate_tasks(model, [load_task(task.config, {"tokenizer": tokenizer})])
    assert task.metrics == ("bits_per_byte", "bits_256", "bits_512", "bits_600")
    found = result["results"][task.lm_eval_name]
    for metric in task.metrics:
        assert found[f"{metric},none"] == pytest.approx(2 / math.log(2))
    samples = result["samples"][task.lm_eval_name]
    assert len(samples) == 3
    assert len(model.asked) == 9
    for sample in samples:
        text, cuts = sample["doc"]["text"], sample["doc"]["cuts"]
        for start, cut in zip([len(text.split()[0]), *cuts[:-1]], cuts, strict=True):
            assert (text[:start], text[start:cut]) in model.asked
        assert "bits_1024" not in sample


def test_buckets_are_weighted_by_their_bytes() -> None:
    doc = {"text": "a b éx", "cuts": [3, 6], "ends": [256, 512]}
    assert score(doc, [(-3.0, True), (-5.0, False)]) == {
        "bits_per_byte": (-8.0, 6),
        "bits_256": (-3.0, 2),
        "bits_512": (-5.0, 4),
    }


def test_the_sum_over_buckets_is_the_likelihood_of_the_document(tokenizer: str, tmp_path: Path) -> None:
    """On a real model: cutting a document into requests changes nothing of its sum."""
    model = GDN2LM(str(small_checkpoint(tmp_path)), max_length=700)
    task = resolve("essay_positions@600", samples=2)
    result = evaluate_tasks(model, [load_task(task.config, {"pretrained": str(tmp_path)})])
    for sample in result["samples"][task.lm_eval_name]:
        first, rest = sample["doc"]["text"].split(" ", 1)
        whole = (first, " " + rest)
        request = Instance(request_type="loglikelihood", doc={}, arguments=whole, idx=0)
        ((total, _),) = model.loglikelihood([request])
        assert sample["bits_per_byte"][0] == pytest.approx(total, rel=1e-5)
    assert tokenizer


def test_plain_lm_eval_finds_the_shipped_length(tokenizer: str) -> None:
    manager = TaskManager(
        include_path=str(ROOT), include_defaults=False, metadata={"tokenizer": tokenizer, "max_samples": 1}
    )
    task = manager.load(["gdn2_essay_positions_8192"])["tasks"]["gdn2_essay_positions_8192"]
    assert list(task.aggregation()) == list(resolve("essay_positions@8192").metrics)
    task.build_all_requests(limit=1, rank=0, world_size=1)
    assert len(task.instances) == 6


def test_shipped_lengths_list_the_buckets_that_they_have() -> None:
    for name in ("wiki", "essay", "pg19"):
        file = ROOT / "perplexity" / f"{name}_positions" / "8192.yaml"
        listed = load_yaml(file)["metric_list"]
        assert listed == metrics_at(listed[:1], 8192) == resolve(f"{name}_positions@8192").config["metric_list"]


def test_the_suites_show_every_bucket() -> None:
    for name, length in (("perplexity", 8192), ("perplexity-pg19", 32768)):
        for task in load_suite(name).resolve():
            shown = [column.metric for column in load_suite(name).columns if column.task == task.info.name]
            assert task.length is None or (set(shown) == set(task.metrics) and task.length == length)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"source": "essays", "length": 512}, "'source' must be one of essay, wiki, pg19"),
        ({"source": "essay"}, "'length' is missing"),
        ({"source": "essay", "length": 100}, "must be at least 256 tokens"),
        ({"source": "essay", "length": "512"}, "'length' must be a whole number"),
        ({"source": "essay", "length": 512, "bucket": 2}, "unknown field 'bucket'"),
    ],
)
def test_a_wrong_field_is_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        PositionSpec.parse(spec)


def test_a_text_that_is_too_short_says_so(tokenizer: str) -> None:
    with pytest.raises(TaskError, match="no text of wiki has 3072 characters for 512 tokens; give a shorter"):
        build({"source": "wiki", "length": 512}, tokenizer=tokenizer)
    with pytest.raises(TaskError, match="give a tokenizer"):
        build({"source": "essay", "length": 512})


def test_a_sample_can_be_shown(tokenizer: str) -> None:
    shown = show_sample("essay_positions@512", tokenizer)
    assert 450 < shown["prompt_tokens"] <= 512
