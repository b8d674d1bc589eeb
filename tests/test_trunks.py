"""States of shared prefixes: the same from memory, from disk, and read again; stop rules at the end of a text."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model, small_tokenizer

from harness.engine import trunks as kept
from harness.engine.executor import LocalExecutor
from harness.engine.reader import Reader
from harness.engine.requests import GenerateRequest
from harness.engine.stops import StopRule
from harness.engine.trunks import Trunks
from harness.engine.units import Limits

TRUNK = ([5, 6, 7, 8], [9] * 30)
LIMITS = Limits(tokens=64, rows=4)


@pytest.fixture(scope="module")
def reader() -> Reader:
    model = small_model(mixer_config("gdn2", "attention", initializer_range=0.2))
    return LocalExecutor(model, LIMITS, StopRule(small_tokenizer())).reader


@pytest.fixture(autouse=True)
def short_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "ON_DISK_TOKENS", 10)


def tensors(trunks: Trunks, reader: Reader) -> dict[str, torch.Tensor]:
    state = trunks.state(TRUNK, reader)
    assert state is not None
    return state.to_tensors()


def test_a_state_from_disk_is_the_state(reader: Reader, tmp_path: Path) -> None:
    expected = tensors(Trunks(), reader)
    assert tensors(Trunks(tmp_path, "me"), reader).keys() == expected.keys()
    before = reader.tokens_read
    found = tensors(Trunks(tmp_path, "me"), reader)
    assert reader.tokens_read == before
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert Trunks(tmp_path, "me").state((), reader) is None


def test_another_checkpoint_or_another_cut_does_not_find_it(reader: Reader, tmp_path: Path) -> None:
    tensors(Trunks(tmp_path, "me"), reader)
    for identity, trunk in (("other", TRUNK), ("me", ([5, 6, 7], [8] + [9] * 30))):
        before = reader.tokens_read
        Trunks(tmp_path, identity).state(trunk, reader)
        assert reader.tokens_read == before + 34


def test_a_damaged_file_is_read_again(reader: Reader, tmp_path: Path) -> None:
    expected = tensors(Trunks(tmp_path, "me"), reader)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-40])
    found = tensors(Trunks(tmp_path, "me"), reader)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_budget_holds_and_the_oldest_goes_first(reader: Reader, tmp_path: Path) -> None:
    size = Trunks().state(TRUNK, reader).num_bytes  # type: ignore[union-attr]
    trunks = Trunks(tmp_path, "me", budget=int(2.6 * size))
    names: list[Any] = []
    for first in (1, 2, 3):
        trunks.state(([first] * 34,), reader)
        (new,) = {file.name for file in tmp_path.glob("*.safetensors")} - set(names)
        os.utime(tmp_path / new, (first, first))
        names.append(new)
    assert {file.name for file in tmp_path.glob("*")} == set(names[1:])
    assert Trunks(tmp_path, "me", budget=size - 1).state(([4] * 34,), reader) is not None
    assert len(list(tmp_path.glob("*"))) == 2


def test_a_trunk_of_more_runs_than_calls_can_be_nested_is_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    state = Trunks().state(TRUNK, reader)

    def count(rows: list[list[int]], *_: Any, **__: Any) -> Any:
        read.append(len(rows[0]))
        return state

    monkeypatch.setattr(reader, "read", count)
    runs = tuple((at,) for at in range(sys.getrecursionlimit() + 10))
    trunks = Trunks()
    assert trunks.state(runs, reader) is state
    assert read == [1] * len(runs)
    trunks.state((*runs, (1, 2)), reader)
    assert read[len(runs) :] == [2]


@pytest.mark.parametrize(("most", "again"), [(1 << 40, 0), (0, 9)])
def test_small_states_stay_in_memory_however_many(
    most: int, again: int, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "IN_MEMORY_BYTES", most)
    runs, trunks = tuple((at,) for at in range(20)), Trunks()
    trunks.state(runs, reader)
    before = reader.tokens_read
    trunks.state(runs[:9], reader)
    assert reader.tokens_read == before + again
    assert most or len(trunks._states) == kept.IN_MEMORY


def test_short_runs_share_a_file_and_the_rest_is_read_again(reader: Reader, tmp_path: Path) -> None:
    runs = tuple((at, at + 1, at + 2) for at in range(10, 20))
    expected = Trunks().state(runs, reader)
    Trunks(tmp_path, "me").state(runs, reader)
    assert len(list(tmp_path.glob("*"))) == 2  # behind 12 and 24 of 30 tokens
    for first, again in ((runs, 6), (runs[:9], 3), (runs[:8], 0), (runs[:7], 9)):
        before = reader.tokens_read
        found = Trunks(tmp_path, "me").state(first, reader)
        assert reader.tokens_read == before + again
        assert found is not None
        if first is runs:
            tensors, wanted = found.to_tensors(), expected.to_tensors()  # type: ignore[union-attr]
            assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def test_a_folder_that_cannot_be_written_is_no_reason_to_stop(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert tensors(Trunks(tmp_path / "file" / "x", "me"), reader)


class TestStops:
    tokenizer = small_tokenizer()
    rule = StopRule(tokenizer)

    def over(self, text: str, **fields: Any) -> int:
        """After how many tokens a generation of `text` is over; 0: never."""
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        request = GenerateRequest(**{"context_ids": [1], "max_tokens": 10**6, "end_ids": frozenset({0}), **fields})
        return next((n for n in range(1, len(ids) + 1) if self.rule.is_over(request, ids[:n])), 0)

    @pytest.mark.parametrize(
        "text", ["What is the special magic number? It is 4071398.\nMany", "naïve cafés line\nx", "é\n"]
    )
    @pytest.mark.parametrize("stop", ["\n", ".\n", "line", "é", "cial magic num", "zzz", " "])
    def test_a_stop_string_ends_it_with_the_token_that_completes_it(self, text: str, stop: str) -> None:
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        first = next((n for n in range(1, len(ids) + 1) if stop in self.tokenizer.decode(ids[:n])), 0)
        assert self.over(text, stops=(stop,)) == first

    def test_the_last_reference_ends_it_whatever_its_case(self) -> None:
        text = "It is 4071398. MANY rivers of the region"
        assert self.over(text, references=("many", "4071398")) == len(self.tokenizer.encode("It is 4071398. MANY"))
        assert self.over(text, references=("many", "4071399")) == 0

    def test_limits_and_ends(self) -> None:
        assert self.over("The quick brown fox", max_tokens=3) == 3
        assert self.over("The quick<|endoftext|> brown") == len(self.tokenizer.encode("The quick<|endoftext|>"))
