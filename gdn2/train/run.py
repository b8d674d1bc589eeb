"""One training run: what can be refused is refused first, then tokenizer, corpus, training, export."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from basis.errors import reason
from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM
from gdn2.train.batches import BatchMaker
from gdn2.train.corpus import load_corpus, read_texts
from gdn2.train.export import check_folder, check_heldout, export
from gdn2.train.fields import RecipeError
from gdn2.train.loop import train
from gdn2.train.recipe import Recipe
from gdn2.train.saves import WorkFolder
from gdn2.train.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTES_A_PARAMETER = 16  # float32: the weight, its gradient and two moments


def run(recipe: Recipe, out: Path, work: Path, report: Callable[[str], None]) -> None:
    """Train and export; everything that was finished before is taken from the work folder.

    Args:
        recipe: what to do.
        out: folder of the checkpoint; it replaces nothing.
        work: folder of what a later run needs to go on.
        report: takes lines for a reader.

    Raises:
        RecipeError: the recipe, its data, a folder or a saved state cannot be used.
    """
    train_path, heldout_path = recipe.data.paths()
    _check_work(work, out)
    check_folder(out)
    check_heldout(heldout_path)
    texts = itertools.islice(read_texts(train_path), recipe.tokenizer.documents)
    tokenizer = train_tokenizer(texts, recipe.tokenizer.vocab_size, recipe.tokenizer.digits)
    corpus = load_corpus(train_path, tokenizer)
    report(f"{corpus.documents:,} paragraphs, {len(corpus.stream):,} tokens, {len(corpus.key_words):,} key words")
    batches = BatchMaker(recipe, corpus, tokenizer)
    batches.check()
    model = _make_model(recipe, tokenizer)
    report(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    try:
        log = train(recipe, model, batches, WorkFolder(work, recipe, corpus.fingerprint), report)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise recipe.error(
            "stages: a step needs more memory than there is; choose fewer rows or a shorter length"
        ) from error
    export(recipe, model, tokenizer, corpus, log, out)
    report(f"checkpoint written to {out}")


def _check_work(work: Path, out: Path) -> None:
    """Make the work folder and see that it can be written to.

    Raises:
        RecipeError: it cannot, or it lies where the checkpoint shall be.
    """
    try:
        if work.resolve().is_relative_to(out.resolve()):
            raise RecipeError(f"{work}: the work folder cannot lie in the checkpoint's; choose another --work or --out")
        work.mkdir(parents=True, exist_ok=True)
        probe = work / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"{work}: cannot be used as the work folder ({reason(error)}); choose another with --work"
        ) from error


def _make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> GDN2ForCausalLM:
    """The model with fresh weights, which the recipe's seed decides.

    It reads two tokens before it is given away, so that sizes which fit no layer are told before training.

    Raises:
        RecipeError: a field of `model` that the config or a layer refuses, or more parameters than memory holds.
    """
    special = tokenizer.eos_token_id
    try:
        config = GDN2Config(
            vocab_size=len(tokenizer), bos_token_id=special, eos_token_id=special, pad_token_id=special, **recipe.model
        )
        _check_memory(recipe, config)
        torch.manual_seed(recipe.seed)
        model = GDN2ForCausalLM(config)
        with torch.no_grad():
            model(input_ids=torch.tensor([[special, special]]), use_cache=False)
    except RecipeError:
        raise
    except Exception as error:  # values of any type reach layers of any kind here
        raise recipe.error(f"model: {reason(error)[:300]}") from error
    return model


def _check_memory(recipe: Recipe, config: GDN2Config) -> None:
    with torch.device("meta"):  # sizes without values
        parameters = sum(p.numel() for p in GDN2ForCausalLM(config).parameters())
    needed = parameters * BYTES_A_PARAMETER
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise recipe.error(
            f"model: {parameters:,} parameters need {needed / 1e9:,.0f} GB to train and this machine has "
            f"{there / 1e9:,.0f}; choose smaller sizes"
        )
