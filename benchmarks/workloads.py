"""Requests as users ask them, for benchmarks: multiple choice, needles, prompts with one or several questions."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance

from gdn2 import GDN2Config, GDN2ForCausalLM
from tasks import data
from tasks.ruler.build import make_generator


def texts(tokenizer: Any, length: int, count: int, seed: int = 0) -> list[str]:
    """`count` pieces of held-out text that have `length` tokens each."""
    rng = random.Random(seed)
    ids = tokenizer.encode(" ".join(paragraph.text for paragraph in data.wiki_heldout()), add_special_tokens=False)
    found: list[str] = []
    while len(found) < count:
        start = rng.randrange(len(ids) - length - 8)
        text = tokenizer.decode(ids[start : start + length])
        if len(tokenizer.encode(text, add_special_tokens=False)) == length:
            found.append(text)
    return found


def choices(tokenizer: Any, documents: int) -> list[Instance]:
    """Multiple choice: contexts of 300 tokens, four continuations of 20 each."""
    contexts, ends = texts(tokenizer, 300, documents), texts(tokenizer, 20, 4 * documents, seed=1)
    pairs = [(contexts[i // 4], " " + end.strip()) for i, end in enumerate(ends)]
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def needles(tokenizer: Any, count: int) -> list[Instance]:
    """S-NIAH-1: prompts of 2048 tokens, 128 to generate."""
    generator = make_generator({"task": "niah_single_1", "length": 2048 + 128}, tokenizer)
    docs = [generator.sample(i) for i in range(count)]
    arguments = [(f"{doc['input']} {doc['gen_prefix']}", {"until": [], "max_gen_toks": 128}) for doc in docs]
    return [Instance("generate_until", {}, argument, i) for i, argument in enumerate(arguments)]


def prompts(tokenizer: Any, count: int, *, questions: int = 1, length: int = 2048) -> list[Instance]:
    """Prompts of `length` tokens with 128 to generate; `questions` of them on one text."""
    asked = texts(tokenizer, 16, count, seed=2)
    contexts = texts(tokenizer, length - 16, -(-count // questions), seed=3)
    arguments = [
        (contexts[i // questions] + " " + ask, {"until": [], "max_gen_toks": 128}) for i, ask in enumerate(asked)
    ]
    return [Instance("generate_until", {}, argument, i) for i, argument in enumerate(arguments)]


def with_vocabulary(checkpoint: str, rows: int, folder: Path) -> str:
    """A random model of the checkpoint's sizes, with its tokenizer and an embedding and head of `rows` rows."""
    config = GDN2Config.from_pretrained(checkpoint, vocab_size=rows, tie_word_embeddings=False)
    torch.manual_seed(0)
    GDN2ForCausalLM(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (Path(checkpoint) / file).is_file():
            shutil.copy(Path(checkpoint) / file, folder / file)
    return str(folder)
