"""Retrieval documents in the trainer's own wording: answerable, in no evaluation's words, the same for a step."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from fakes import TEXT
from trials import RECIPE

from gdn2.train import drawing, facts
from gdn2.train import tokenizer as tokenizer_module
from gdn2.train.batches import Batch, BatchMaker
from gdn2.train.facts import ANSWER, ASIDES, ASKED, OPENINGS, REWRITTEN, STATED, Document
from gdn2.train.fields import RecipeError
from gdn2.train.prepared import prepare
from gdn2.train.recipe import parse_recipe

EVALUATED = ("special magic", "hidden within", "mentioned in the provided", "withdrawn", "latest")


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> BatchMaker:
    folder, rng, words = tmp_path_factory.mktemp("facts"), random.Random(0), TEXT.replace("\n", " ").split()
    lines = [json.dumps({"text": ". ".join(" ".join(rng.choices(words, k=9)).capitalize() for _ in range(6)) + "."})
             for _ in range(200)]  # fmt: skip
    (folder / "train.jsonl").write_text("\n".join(lines))
    raw = {**RECIPE, "tokenizer": {"vocab_size": 420}}
    raw["data"] = {name: str(folder / f"{name}.jsonl") for name in ("train", "heldout")}
    stage = {"steps": 4, "rows": 4, "retrieval": 0.5, "max_keys": 5, "wording": "own"}
    raw["stages"] = [{**stage, "length": 600}, {**stage, "length": 128}]
    recipe = parse_recipe(yaml.safe_dump(raw), Path("recipe.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer_module, "NUMBER_REPEATS", 500)
        tokenizer, corpus = prepare(recipe)
    return BatchMaker(recipe, corpus, tokenizer)


def documents(maker: BatchMaker, count: int, size: int = 500) -> list[Document]:
    drawn = [maker._facts.draw(random.Random(i), size, 5) for i in range(count)]
    return [document for document in drawn if document is not None]


def answers(maker: BatchMaker, document: Document) -> list[tuple[str, str]]:
    """Each answer with the text before it."""
    is_answer = document.kinds == ANSWER
    starts = np.flatnonzero(is_answer & ~np.append(False, is_answer[:-1]))
    ends = np.flatnonzero(is_answer & ~np.append(is_answer[1:], False)) + 1
    parts = [(document.ids[:a], document.ids[a:b]) for a, b in zip(starts, ends, strict=True)]
    return [(str(maker.tokenizer.decode(before)), str(maker.tokenizer.decode(ids)).strip()) for before, ids in parts]


def test_no_wording_is_an_evaluations() -> None:
    for wording in (*OPENINGS, *STATED, *REWRITTEN, *ASKED, *ASIDES):
        assert not any(words in wording for words in EVALUATED), wording
        assert not wording.startswith("{key}: {value}")
    assert all("{key}" in wording and "{value}" in wording for wording in (*STATED, *REWRITTEN))
    assert all("{key}" in wording and "{value}" not in wording for wording in ASKED)


def test_every_answer_is_the_last_value_that_its_key_was_given(
    maker: BatchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, wording in (
        ("STATED", "So <{key}|{value}>."),
        ("REWRITTEN", "Now <{key}|{value}>."),
        ("ASKED", " <{key}>"),
    ):
        monkeypatch.setattr(facts, name, (wording,))
    asked = [answer for document in documents(maker, 80) for answer in answers(maker, document)]
    assert len(asked) > 60
    given = [re.findall(r"(So|Now) <([^|>]+)\|([^>]+)>", before) for before, _ in asked]
    for (before, value), statements in zip(asked, given, strict=True):
        key = before.rpartition("<")[2].rstrip(">")
        assert value == [told for _, name, told in statements if name == key][-1]
        assert [how for how, name, _ in statements if name == key].count("So") == 1
    assert any(how == "Now" for statements in given for how, _, _ in statements)


def test_documents_keep_to_their_size_and_are_encoded_as_their_text_is(maker: BatchMaker) -> None:
    for size in (128, 500):
        for document in documents(maker, 40, size):
            assert len(document.ids) <= size
            text = maker.tokenizer.decode(document.ids)
            again = maker.tokenizer(text, add_special_tokens=False).input_ids
            assert abs(len(again) - len(document.ids)) <= 2  # a stretch may begin inside of a word


def test_a_row_holds_several_documents_and_the_batch_of_a_step_is_one(maker: BatchMaker) -> None:
    maker.check()
    first = maker.batch(0)
    assert all(bool((a == b).all()) for a, b in zip(vars(first).values(), vars(maker.batch(0)).values(), strict=True))
    assert first.input_ids.shape == (4, 600)
    assert int(first.is_answer.sum()) > 4
    assert not bool((first.is_answer & first.is_text).any())
    assert bool(first.is_text[2:].all())


class Collected(list[Any]):
    """A pipe's end that keeps what is sent, and whose other end goes away after some."""

    def __init__(self, most: int = 100) -> None:
        self.most = most

    def send(self, value: Any) -> None:
        if len(self) == self.most:
            raise BrokenPipeError
        self.append(value)


def test_a_process_draws_its_batches_until_nobody_takes_them(
    maker: BatchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing.signal, "signal", lambda *_: None)
    end: Any = Collected(2)
    drawing._draw(maker.recipe, maker.corpus, maker.tokenizer, range(1, 8, 2), end)
    assert len(end) == 2
    for step, arrays in zip((1, 3), end, strict=True):
        assert bool((Batch.of(*arrays).input_ids == maker.batch(step).input_ids).all())
    end = Collected()
    drawing._draw(maker.recipe, maker.corpus, maker.tokenizer, range(7, 9), end)
    assert isinstance(end[-1], IndexError)  # there are 8 steps; what went wrong is raised by who takes it


class Lost:
    """A process that ends while it starts, or within a batch that it gives away."""

    def __init__(self, target: Any, args: tuple[Connection, int], daemon: bool) -> None:
        assert (target, daemon) == (drawing._serve, True)
        self.end, parent = args  # nothing else: a process that ends never reads the megabytes of a text
        assert parent == os.getpid()

    def start(self) -> None:
        os.write(self.end.fileno(), self.said)

    said = b""
    terminate = join = lambda _: None


@pytest.mark.parametrize("said", [b"", b"\0", (1000).to_bytes(4, "big") + b"half"])
def test_a_process_that_ends_at_any_time_is_named_with_the_way_on(
    maker: BatchMaker, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(Lost, "said", said)
    context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Lost)
    monkeypatch.setattr(drawing.multiprocessing, "get_context", lambda _: context)
    with drawing.drawing(maker, range(8), 2) as take:
        for step in (0, 1):
            with pytest.raises(RecipeError, match=r"one of them has ended.* goes on from the last save"):
                take(step)


def test_processes_that_cannot_be_started_are_refused_by_field(
    maker: BatchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(Lost):
        def start(self) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    context = SimpleNamespace(Pipe=multiprocessing.Pipe, Process=Refused)
    monkeypatch.setattr(drawing.multiprocessing, "get_context", lambda _: context)
    with (
        pytest.raises(RecipeError, match=r"drawing_processes: 2 cannot be started \(Resource .*choose fewer, or 0"),
        drawing.drawing(maker, range(8), 2),
    ):
        pass


def test_a_process_is_told_what_to_draw_and_ends_with_whom_it_draws_for(
    maker: BatchMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing.signal, "signal", lambda *_: None)
    watched: list[int] = []
    monkeypatch.setattr(drawing, "end_with", watched.append)
    own, end = multiprocessing.Pipe()
    own.send((maker.recipe, maker.corpus, maker.tokenizer, range(2, 3)))
    drawing._serve(end, 7)
    assert bool((Batch.of(*own.recv()).input_ids == maker.batch(2).input_ids).all())
    own.close()
    drawing._serve(end, 7)
    assert watched == [7, 7]


def test_a_row_without_room_is_refused_before_training(maker: BatchMaker) -> None:
    short = maker.recipe.text.replace("length: 128", "length: 8")
    with pytest.raises(RecipeError, match="none of 100 retrieval documents fits in 8 tokens"):
        BatchMaker(parse_recipe(short, Path("recipe.yaml")), maker.corpus, maker.tokenizer).check()
