"""Tokenizer and tokens made ahead, in a folder that is enough to train: on a machine without the text, or many runs."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from basis.errors import reason
from basis.files import load_json, replacing, write_atomically
from gdn2.train.corpus import Corpus, load_corpus, read_texts
from gdn2.train.fields import RecipeError
from gdn2.train.recipe import Recipe
from gdn2.train.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LAYOUT = 1
STREAM, ABOUT, TOKENIZER = "stream.npy", "corpus.json", "tokenizer"


def prepare(recipe: Recipe) -> tuple[PreTrainedTokenizerFast, Corpus]:
    """Train a recipe's tokenizer and read its text.

    Raises:
        RecipeError: the text cannot be used.
    """
    path = recipe.data.paths()[0]
    texts = itertools.islice(read_texts(path), recipe.tokenizer.documents)
    tokenizer = train_tokenizer(texts, recipe.tokenizer.vocab_size, recipe.tokenizer.digits)
    return tokenizer, load_corpus(path, tokenizer)


def prepare_into(recipe: Recipe, folder: Path) -> Corpus:
    """The same, written to a folder for `prepared`.

    Raises:
        RecipeError: the text cannot be used, or the folder cannot be written.
    """
    tokenizer, corpus = prepare(recipe)
    about = {
        **_identity(recipe),
        "key_words": corpus.key_words,
        "sentences": corpus.sentences,
        "documents": corpus.documents,
        "num_bytes": corpus.num_bytes,
        "fingerprint": corpus.fingerprint,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder / TOKENIZER)
        with replacing(folder / STREAM) as temporary, temporary.open("wb") as file:
            np.save(file, corpus.stream)
        write_atomically(folder / ABOUT, json.dumps(about, ensure_ascii=False) + "\n")
    except Exception as error:  # tokenizers has no type for a disk that refuses
        raise RecipeError(f"{folder}: cannot be written ({reason(error)}); choose another folder") from error
    return corpus


def prepared(recipe: Recipe, folder: Path) -> tuple[PreTrainedTokenizerFast, Corpus]:
    """Read what `prepare_into` wrote.

    Raises:
        RecipeError: it is not there, damaged, or of another tokenizer or text than the recipe's.
    """
    from transformers import PreTrainedTokenizerFast

    again = "make it again with --prepare"
    try:
        about = load_json(folder / ABOUT)
        stream = np.load(folder / STREAM, allow_pickle=False)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / TOKENIZER)
        identity = {name: about[name] for name in _identity(recipe)}
        corpus = _corpus(about, stream)
        if corpus.fingerprint != about["fingerprint"]:
            raise ValueError("the tokens are not those that were written")
        if tokenizer.eos_token_id != int(stream[0]) or int(stream.max()) >= len(tokenizer):
            raise ValueError("the tokens are not of that tokenizer")
    except Exception as error:  # what the package tokenizers raises has no type of its own
        raise RecipeError(f"{folder}: no tokens made ahead can be read ({reason(error)[:120]}); {again}") from error
    for name, wanted in _identity(recipe).items():
        if identity[name] != wanted:
            raise recipe.error(f"{folder} was made ahead with another {name} than this recipe's; {again}")
    return tokenizer, corpus


def _corpus(about: dict[str, Any], stream: np.ndarray) -> Corpus:
    """The corpus that a file describes. Raises TypeError where a field is of another kind."""
    texts = {name: about[name] for name in ("key_words", "sentences")}
    counts = {name: about[name] for name in ("documents", "num_bytes")}
    for name, found in texts.items():
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise TypeError(f"{name} is no list of texts")
    for name, number in counts.items():
        if type(number) is not int:
            raise TypeError(f"{name} is no whole number")
    return Corpus(stream, **texts, **counts)


def _identity(recipe: Recipe) -> dict[str, Any]:
    """What decides tokenizer and tokens, as far as a recipe says it."""
    return {"layout": LAYOUT, "tokenizer": dataclasses.asdict(recipe.tokenizer), "data.train": recipe.data.train}
