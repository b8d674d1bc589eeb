"""Stop strings: found with the token that completes them, however tokens cut the text."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
from fakes import TEXT, small_tokenizer
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from harness.engine.requests import GenerateRequest
from harness.engine.stops import StopRule

TOKENIZER: Any = small_tokenizer()
IDS = TOKENIZER.encode(TEXT, add_special_tokens=False)


def first_end(ids: list[int], stops: tuple[str, ...]) -> int | None:
    rule, request = StopRule(TOKENIZER), GenerateRequest([1], len(ids) + 1, frozenset(), stops)
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
    decode = TOKENIZER.decode
    calls: Any = []
    rule, request = StopRule(TOKENIZER), GenerateRequest([1], 10**6, frozenset(), ("<|endoftext|>",))
    ids = IDS * 10
    monkeypatch.setattr(TOKENIZER, "decode", lambda *a, **k: calls.append(a) or decode(*a, **k))
    assert not any(rule.is_over(request, ids[:n]) for n in range(1, len(ids) + 1))
    assert len(calls) < len(ids) / 2


@lru_cache
def fallback(*, cleans: bool = False) -> Any:
    """Llama 2's kind: pieces with a space in front, whose first one goes, and bytes that are decoded run by run."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", "\u2581the", "\u2581fox", "x", "\n", "\u5929", "\u2581.", "\u2581'", "s"]
    pieces += ["\u2581do", "\u2581not", "!"]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", clean_up_tokenization_spaces=cleans
    )


@lru_cache
def word_pieces() -> Any:
    pieces = ["[UNK]", "the", "##x", "fox", ".", "'", "s", "do", "not", "##not", "!"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


KINDS: dict[str, Callable[[], Any]] = {
    "byte-level": lambda: TOKENIZER,
    "fallback": fallback,
    "fallback, cleaned up": lambda: fallback(cleans=True),
    "word pieces": word_pieces,
}


def byte_ids(text: str) -> list[int]:
    return [3 + byte for byte in text.encode()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(40))
def test_a_stop_is_found_exactly_when_the_whole_text_has_it(kind: str, seed: int) -> None:
    """The specification: after every token the text of all ids is looked at. Ids of all kinds, bytes above all."""
    rng, tokenizer = random.Random(seed), KINDS[kind]()
    ids = [rng.randrange(len(tokenizer)) for _ in range(90)]
    if kind.startswith("fallback") and seed % 2:
        parts = [
            [*byte_ids(rng.choice(["\u5929\u5730", "a", "\n", "."])), rng.randrange(len(tokenizer))] for _ in range(20)
        ]
        ids = [token for part in parts for token in part]
    texts = [tokenizer.decode(ids[:n], skip_special_tokens=False) for n in range(1, len(ids) + 1)]
    at = rng.randrange(len(texts[-1]))
    stops = (texts[-1][at : at + rng.randint(1, 9)], rng.choice(["\n", "n't", ". ", "\u5730", "x the"]))
    expected = next((n for n, text in enumerate(texts, start=1) if any(stop in text for stop in stops)), None)
    rule, request = StopRule(tokenizer), GenerateRequest([1], 10**6, frozenset(), stops)
    assert next((n for n in range(1, len(ids) + 1) if rule.is_over(request, ids[:n])), None) == expected


@pytest.mark.parametrize("written", ["\u5929\u5730\n", "\u5929\u5730\u7384\u9ec4" * 9 + "\n", "a\U0001f642\n", "\n"])
def test_a_stop_behind_characters_in_bytes_is_found(written: str) -> None:
    rule, request = StopRule(fallback()), GenerateRequest([1], 999, frozenset(), ("\n",))
    ids = byte_ids(written)
    assert [rule.is_over(request, ids[:n]) for n in range(1, len(ids) + 1)] == [False] * (len(ids) - 1) + [True]
