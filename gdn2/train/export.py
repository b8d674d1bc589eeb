"""The finished checkpoint: a Hugging Face folder with the recipe, the log, and a card that says what the model saw."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from transformers.utils.logging import disable_progress_bar

from basis.errors import reason
from basis.files import try_writing
from gdn2.model import GDN2ForCausalLM
from gdn2.train.corpus import Corpus, read_texts
from gdn2.train.fields import RecipeError
from gdn2.train.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HELDOUT_PARAGRAPHS = 200


def check_folder(folder: Path) -> None:
    """See, before anything is trained, that a checkpoint can be written here and replaces nothing.

    Args:
        folder: where the checkpoint will be; folders above it are made.

    Raises:
        RecipeError: there is something in the way, or the place cannot be written to.
    """
    try:
        if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
            raise RecipeError(
                f"{folder}: exists already, and training never overwrites; choose another folder with --out"
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        try_writing(folder.parent)
    except (OSError, ValueError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(f"{folder}: cannot be written ({reason(error)}); choose another folder with --out") from error


def check_heldout(path: Path) -> None:
    """See, before anything is trained, that the held-out text is there.

    Args:
        path: JSON lines.

    Raises:
        RecipeError: the file is missing or wrong, or there is no word in its first paragraphs.
    """
    words = sum(len(text.split()) for text in itertools.islice(read_texts(path), HELDOUT_PARAGRAPHS))
    if not words:
        raise RecipeError(f"{path}: no words in its first {HELDOUT_PARAGRAPHS} paragraphs; data.heldout needs some")


def export(
    recipe: Recipe,
    model: GDN2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    log: list[dict[str, Any]],
    folder: Path,
    *,
    processes: int = 1,
) -> None:
    """Write config, weights, tokenizer, recipe, log and card; the folder appears whole or not at all.

    Matrices are rounded to bfloat16 before the card's figures are computed, so that these are the file's own.

    Args:
        recipe: what the model was trained by.
        model: the trained model; it is rounded in place.
        tokenizer: the model's.
        corpus: the training text.
        log: of the training.
        folder: absent or empty.
        processes: that trained it at the end.

    Raises:
        RecipeError: the folder cannot be written, or is no longer empty.
    """
    model.train(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.bfloat16())
    heldout = heldout_figures(model, tokenizer, corpus, recipe.data.paths()[1])
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.bfloat16()
    files = {
        "recipe.yaml": recipe.text,
        "log.jsonl": "".join(json.dumps(entry) + "\n" for entry in log),
        "README.md": _card(recipe, model, corpus, heldout, _time_words(log, model.device, processes)),
    }
    try:
        _write_folder(model, tokenizer, files, folder)
    except Exception as error:  # safetensors and tokenizers have errors of no common type for a disk that refuses
        raise RecipeError(
            f"{folder}: cannot be written ({reason(error)}); the trained state is kept, and the same command with "
            f"another --out writes the checkpoint"
        ) from error


def _write_folder(
    model: GDN2ForCausalLM, tokenizer: PreTrainedTokenizerFast, files: dict[str, str], folder: Path
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name[:100]}.", dir=folder.parent))
    disable_progress_bar()  # one file's bar says nothing
    try:
        inner = temporary / "checkpoint"  # with the permissions that a new folder has
        inner.mkdir()
        model.save_pretrained(inner)
        tokenizer.save_pretrained(inner)
        for name, text in files.items():
            (inner / name).write_text(text, encoding="utf-8", newline="\n")
        os.rename(inner, folder)  # over an empty folder at most
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@torch.no_grad()
def heldout_figures(
    model: GDN2ForCausalLM, tokenizer: PreTrainedTokenizerFast, corpus: Corpus, path: Path
) -> dict[str, float]:
    """Measure the first held-out paragraphs, each alone behind an end-of-text token.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        corpus: the training text, whose frequencies (add-one) make a unigram over the tokens to compare with.
        path: JSON lines; there is a word in their first paragraphs.

    Returns:
        "bits_per_byte" and "word_perplexity", the same of the unigram with "unigram_" in front, and "paragraphs".
    """
    counts = Counter(corpus.stream.tolist())
    total = len(corpus.stream) + len(tokenizer)
    model_nats = unigram_nats = 0.0
    num_bytes = num_words = paragraphs = 0
    for text in itertools.islice(read_texts(path), HELDOUT_PARAGRAPHS):
        paragraphs += 1
        if not text:
            continue
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode(text, add_special_tokens=False)]]).to(
            model.device
        )
        logits = model(ids[:, :-1], use_cache=False).logits[0].float()
        model_nats += float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
        unigram_nats -= sum(math.log((counts[token] + 1) / total) for token in ids[0, 1:].tolist())
        num_bytes += len(text.encode())
        num_words += len(text.split())
    return {
        "bits_per_byte": model_nats / num_bytes / math.log(2),
        "word_perplexity": _exp(model_nats / num_words),
        "unigram_bits_per_byte": unigram_nats / num_bytes / math.log(2),
        "unigram_word_perplexity": _exp(unigram_nats / num_words),
        "paragraphs": paragraphs,
    }


def _exp(nats: float) -> float:
    """The exponential; infinite beyond a float's range, as for a long "word" of a script without spaces."""
    return math.exp(nats) if nats < 709 else math.inf


def _card(recipe: Recipe, model: GDN2ForCausalLM, corpus: Corpus, heldout: dict[str, float], time: str) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    state = model.model.empty_state(1)
    length = "and the keys and values of full attention" if state.grows else "whatever its length"
    seen = sum(stage.steps * stage.rows * stage.length for stage in recipe.stages)
    retrieval = sum(stage.steps * round(stage.rows * stage.retrieval) * stage.length for stage in recipe.stages)
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
| training text | {corpus.documents:,} paragraphs of {recipe.data.paths()[0].name}, {corpus.num_bytes:,} bytes |
| tokens seen | {seen:,}, of which {retrieval:,} in retrieval documents |
| time | {time} |

Trained by `python -m gdn2.train recipe.yaml` with the recipe beside this card, in these stages:

| length | steps | rows | retrieval rows | needles at most |
| --- | --- | --- | --- | --- |
{stages}

{_wording_words(recipe)}

On the first {heldout["paragraphs"]:.0f} held-out paragraphs, of {recipe.data.paths()[1].name} (float32):

| | bits per byte | word perplexity |
| --- | --- | --- |
| this model | {heldout["bits_per_byte"]:.3f} | {heldout["word_perplexity"]:.1f} |
| unigram over its tokens | {heldout["unigram_bits_per_byte"]:.3f} | {heldout["unigram_word_perplexity"]:.1f} |
"""


def _time_words(log: list[dict[str, Any]], device: torch.device, processes: int) -> str:
    """How long the steps took, and where; other work of that machine is not known here."""
    minutes = sum(entry["seconds"] for entry in log) / 60
    one = "a CPU" if device.type == "cpu" else f"one {torch.cuda.get_device_name(device)}"
    where = f"on {one}" if processes == 1 else f"by {processes} processes, each on {one}"
    return f"{minutes:.1f} minutes of steps {where}, whatever else ran there"


def _wording_words(recipe: Recipe) -> str:
    """What the card says of the retrieval documents."""
    wordings = {stage.wording for stage in recipe.stages if round(stage.rows * stage.retrieval)}
    said = []
    if "own" in wordings:
        said.append(
            "Retrieval documents come from `gdn2/train/facts.py`: facts between sentences of the training text, "
            "some of them\nrewritten later, and questions behind them, in wordings that no evaluation uses."
        )
    if "ruler" in wordings:
        said.append(
            "Retrieval documents come from `gdn2/train/retrieval.py`: facts between sentences of the training text or "
            "repeated\nfiller lines. Half of them use the wording of RULER's needle tasks, so scores on these tasks "
            "say how well the model\nretrieves, not how well it understands a new question."
        )
    said.append("Their keys and values are drawn at random." if wordings else "There were no retrieval documents.")
    return "\n".join(said)
