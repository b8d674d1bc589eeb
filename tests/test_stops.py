"""Stop strings: found with the token that completes them, however tokens cut the text."""

from __future__ import annotations

import random

import pytest
from fakes import TEXT, small_tokenizer

from harness.engine.requests import GenerateRequest
from harness.engine.stops import StopRule

TOKENIZER = small_tokenizer()
IDS = TOKENIZER.encode(TEXT, add_special_tokens=False)


def first_end(ids: list[int], stops: tuple[str, ...]) -> int | None:
    rule, request = StopRule(TOKENIZER), GenerateRequest((1,), len(ids) + 1, frozenset(), stops)
    return next((n for n in range(1, len(ids) + 1) if rule.is_over(request, ids[:n])), None)


@pytest.mark.parametrize("seed", range(40))
def test_a_text_ends_with_the_token_that_completes_a_stop(seed: int) -> None:
    rng = random.Random(seed)
    ids = [rng.choice(IDS) for _ in range(60)] if seed % 2 else list(IDS)
    text = TOKENIZER.decode(ids)
    start = rng.randrange(len(text) - 6)
    stops = (text[start : start + rng.randint(1, 6)], "never in it")
    decoded = (TOKENIZER.decode(ids[:n]) for n in range(1, len(ids) + 1))
    expected = next(n for n, part in enumerate(decoded, start=1) if any(stop in part for stop in stops))
    assert first_end(ids, stops) == expected


@pytest.mark.parametrize("stop", ["ï", "é", "és line", "cafés"])
def test_a_character_of_several_tokens_ends_a_text_when_it_is_whole(stop: str) -> None:
    ids = [i for character in TEXT for i in TOKENIZER.encode(character, add_special_tokens=False)]
    end = first_end(ids, (stop,))
    assert end is not None
    assert TOKENIZER.decode(ids[:end]).endswith(stop)
    assert stop not in TOKENIZER.decode(ids[: end - 1])


def test_the_end_of_text_spelled_out_is_a_stop() -> None:
    eos = TOKENIZER.decode(TOKENIZER.eos_token_id)
    spelled = [i for character in "a" + eos + "b" for i in TOKENIZER.encode(character, add_special_tokens=False)]
    assert first_end(spelled, (eos,)) == len(spelled) - 1
    assert first_end([5, TOKENIZER.eos_token_id], (eos,)) == 2


def test_most_tokens_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, calls = TOKENIZER.decode, []
    rule, request = StopRule(TOKENIZER), GenerateRequest((1,), 10**6, frozenset(), ("<|endoftext|>",))
    ids = IDS * 10
    monkeypatch.setattr(TOKENIZER, "decode", lambda *a, **k: calls.append(a) or decode(*a, **k))
    assert not any(rule.is_over(request, ids[:n]) for n in range(1, len(ids) + 1))
    assert len(calls) < len(ids) / 2
