"""No damage to a tokenizer's files ends in anything but a tokenizer that works or one named error."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from fakes import small_tokenizer

from harness.errors import UserError
from tasks.text.tokenizers import encode, load_tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json")
VALUES: list[Any] = [None, True, -1, 1e400, "", "\ud800", [], {}, [[]], {"type": "x"}, 2**70]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizers") / "whole"
    small_tokenizer().save_pretrained(folder)
    return folder


def damaged(rng: random.Random, content: bytes) -> bytes:
    """The file cut short, with other bytes, or with another value at one of its places."""
    kind = rng.choice(("cut", "byte", "value", "value", "value", "gone"))
    if kind == "cut":
        return content[: rng.randrange(len(content))]
    if kind == "byte":
        place = rng.randrange(len(content))
        return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    tree = json.loads(content)
    at: Any = tree
    while True:
        keys: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = rng.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.7:
            at = at[key]
            continue
        if kind == "gone":
            del at[key]
        else:
            at[key] = rng.choice(VALUES)
        return json.dumps(tree).encode()


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_tokenizer_works_or_is_named(whole: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    refused: list[str] = []
    for number in range(20):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        file = folder / rng.choice(FILES)
        file.write_bytes(damaged(rng, file.read_bytes()))
        try:
            assert isinstance(encode(load_tokenizer(folder), "The quick brown fox."), list)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 3
    assert not [message for message in refused if "\n" in message or str(tmp_path) not in message]
