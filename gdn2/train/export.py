"""The finished checkpoint: a Hugging Face folder with the recipe, the log, and a card that says what the model saw."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from gdn2 import GDN2ForCausalLM
from gdn2.train.corpus import Corpus, read_texts
from gdn2.train.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HELDOUT_PARAGRAPHS = 200


def export(
    recipe: Recipe,
    model: GDN2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    log: list[dict[str, Any]],
    folder: Path,
) -> None:
    """Write config, weights, tokenizer, recipe, log and card into `folder`.

    Matrices are rounded to bfloat16 before the card's figures are computed, so that these are the file's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.bfloat16())
    heldout = heldout_figures(model, tokenizer, corpus, recipe.data.paths()[1])
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "recipe.yaml").write_text(recipe.text, encoding="utf-8")
    (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
    (folder / "README.md").write_text(_card(recipe, model, corpus, log, heldout), encoding="utf-8")


@torch.no_grad()
def heldout_figures(
    model: GDN2ForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, path: Path
) -> dict[str, float]:
    """Bits per byte and word perplexity of the first held-out paragraphs: the model, and a unigram over its tokens
    with frequencies of the training text (add-one), each paragraph alone behind an end-of-text token."""
    counts = Counter(corpus.stream.tolist())
    total = len(corpus.stream) + len(tokenizer)
    model_nats = unigram_nats = 0.0
    num_bytes = num_words = 0
    for index, text in enumerate(read_texts(path)):
        if index == HELDOUT_PARAGRAPHS:
            break
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
        logits = model(ids[:, :-1], use_cache=False).logits[0].float()
        model_nats += float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
        unigram_nats -= sum(math.log((counts[token] + 1) / total) for token in ids[0, 1:].tolist())
        num_bytes += len(text.encode())
        num_words += len(text.split())
    return {
        "bits_per_byte": model_nats / num_bytes / math.log(2),
        "word_perplexity": math.exp(model_nats / num_words),
        "unigram_bits_per_byte": unigram_nats / num_bytes / math.log(2),
        "unigram_word_perplexity": math.exp(unigram_nats / num_words),
        "paragraphs": HELDOUT_PARAGRAPHS,
    }


def _card(
    recipe: Recipe, model: GDN2ForCausalLM, corpus: Corpus, log: list[dict[str, Any]], heldout: dict[str, float]
) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    state = model.model.empty_state(1)
    grows = any(layer.keys is not None for layer in state.layers)
    length = "and the keys and values of full attention" if grows else "whatever its length"
    seen = sum(stage.steps * stage.rows * stage.length for stage in recipe.stages)
    retrieval = sum(stage.steps * round(stage.rows * stage.retrieval) * stage.length for stage in recipe.stages)
    minutes = sum(entry["seconds"] for entry in log) / 60
    stages = "\n".join(
        f"| {stage.length} | {stage.steps:,} | {stage.rows} | {stage.retrieval:.0%} | {stage.max_keys} |"
        for stage in recipe.stages
    )
    return f"""# {recipe.name}

{recipe.about.strip()}

| | |
| --- | --- |
| parameters | {parameters:,} (matrices in bfloat16 on disk) |
| layers | {", ".join(f"{count} {name}" for name, count in Counter(model.config.layers).items())} |
| state | {state.num_bytes:,} bytes a sequence, {length} |
| tokenizer | byte-level BPE, {len(corpus.stream):,} tokens of training text, vocabulary {model.config.vocab_size:,} |
| training text | {corpus.documents:,} paragraphs, {corpus.num_bytes:,} bytes |
| tokens seen | {seen:,}, of which {retrieval:,} in retrieval documents |
| time | {minutes:.0f} minutes on the machine that trained it |

Trained by `python -m gdn2.train gdn2/zoo/{recipe.name}/recipe.yaml`, in these stages:

| length | steps | rows | retrieval rows | needles at most |
| --- | --- | --- | --- | --- |
{stages}

The retrieval documents come from `gdn2/train/retrieval.py`: facts between sentences of the training text or
repeated filler lines. Half of them use the wording of RULER's needle tasks, so scores on these tasks say how well
the model retrieves, not how well it understands a new question. Keys and values are drawn at random; the essays that
RULER's haystacks are made of, SQuAD and the held-out paragraphs were never seen.

On the first {heldout["paragraphs"]:.0f} held-out paragraphs (float32):

| | bits per byte | word perplexity |
| --- | --- | --- |
| this model | {heldout["bits_per_byte"]:.3f} | {heldout["word_perplexity"]:.1f} |
| unigram over its tokens | {heldout["unigram_bits_per_byte"]:.3f} | {heldout["unigram_word_perplexity"]:.1f} |
"""
