"""Words add up to the tokens of the whole text, for every tokenizer that is said to be of that kind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruler_data import write_ruler_data
from task_data import essay_text, train_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from harness.paths import ZOO
from tasks.ruler.build import make_generator
from tasks.text.pieces import PROBE, PieceCounter
from tasks.text.tokenizers import TokenCounter, load_tokenizer

TEXT = essay_text(200)


def across_words() -> PreTrainedTokenizerFast:
    """A BPE over whole texts that has learnt tokens of several words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module", params=["bytes", "metaspace", "tiny"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return load_tokenizer(ZOO / "gdn2-tiny") if request.param == "tiny" else train_tokenizer(request.param)


def test_words_add_up_to_the_tokens_of_the_text(tokenizer: Any) -> None:
    counter, whole = PieceCounter(tokenizer), TokenCounter(tokenizer)
    assert counter.adds_up
    rng = random.Random(0)
    words = TEXT.split(" ")
    for _ in range(40):
        start, length = rng.randrange(len(words)), rng.randrange(1, 400)
        text = rng.choice([" ", "\n"]).join([" ".join(words[start : start + length]), PROBE])
        assert counter.count(text) == whole.count(text)
        gaps = rng.choices([" ", "  ", "   ", "\n", " \n", "\n ", "\t "], weights=[6, 1, 1, 1, 1, 1, 1], k=length)
        text = "".join(word + gap for word, gap in zip(words[start : start + length], gaps, strict=False))
        assert counter.count(text) == whole.count(text)
    assert counter.adds_up
    for text in ("", " ", "a", " a", "a ", "a  b c", "a   ", "\n\n", "é"):
        assert counter.count(text) == whole.count(text)


def test_positions_are_those_of_the_whole_text(tokenizer: Any) -> None:
    counter, whole = PieceCounter(tokenizer), TokenCounter(tokenizer)
    rng = random.Random(1)
    for text in (
        TEXT[:4000],
        TEXT[:2000].replace(". ", ".\n"),
        TEXT[:999].replace(". ", ".  "),
        "two  spaces here ",
        "start",
    ):
        places = [place for place in rng.sample(range(len(text)), min(60, len(text))) if text[place] != " "]
        assert counter.positions(text, places) == whole.positions(text, places)


def test_a_tokenizer_with_tokens_of_several_words_is_counted_as_a_whole() -> None:
    tokenizer = across_words()
    counter = PieceCounter(tokenizer)
    assert not counter.adds_up
    assert counter.count(TEXT[:3000]) == len(tokenizer.encode(TEXT[:3000]))


@pytest.fixture
def small_data(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(write_ruler_data(tmp_path)))
        yield


@pytest.mark.usefixtures("small_data")
def test_samples_are_filled_whether_words_add_up_or_not() -> None:
    tokenizer = across_words()
    for task in ("niah_single_2", "vt", "fwe"):
        for doc in make_generator({"task": task, "length": 1500}, tokenizer).samples(3):
            prompt = f"{doc['input']} {doc['gen_prefix']}"
            assert len(tokenizer.encode(prompt)) == doc["prompt_tokens"]
            assert 0.98 < doc["fill"] <= 1
