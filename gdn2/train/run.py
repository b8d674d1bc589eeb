"""One training run: what can be refused is refused first, then tokenizer, corpus, training, export."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from basis.errors import reason
from basis.locks import alone_in
from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM
from gdn2.train.batches import BatchMaker
from gdn2.train.export import check_folder, check_heldout, export
from gdn2.train.fields import RecipeError
from gdn2.train.initial import initialise
from gdn2.train.loop import train
from gdn2.train.place import Place
from gdn2.train.prepared import prepare, prepared
from gdn2.train.recipe import Recipe
from gdn2.train.saves import STATE_FILE, WorkFolder
from gdn2.train.sharing import whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTES_A_PARAMETER = 16  # float32: the weight, its gradient and two moments
OUT_OF_MEMORY = ("allocate memory", "out of memory")


def run(
    recipe: Recipe,
    out: Path,
    work: Path,
    report: Callable[[str], None],
    place: Place | None = None,
    ahead: Path | None = None,
) -> None:
    """Train and export; everything that was finished before is taken from the work folder.

    Of several processes each calls it; the first one reports and writes.

    Args:
        recipe: what to do.
        out: folder of the checkpoint; it replaces nothing.
        work: folder of what a later run needs to go on.
        report: takes lines for a reader.
        place: which process this is, and its device; None: the only one, on the CPU.
        ahead: a folder with tokenizer and tokens made ahead; None: they are made of the text now.

    Raises:
        RecipeError: the recipe, its data, a folder or a saved state cannot be used.
    """
    place = place or Place()
    report = report if place.is_first else lambda _: None
    _check_model(recipe)
    if not place.is_first:
        _run(recipe, out, work, report, place, ahead)
        return
    _check_work(work, out)
    with alone_in(work) as is_alone:
        for left in work.glob(f".{STATE_FILE}.*.tmp") if is_alone else ():  # of one that was killed while it saved
            left.unlink(missing_ok=True)
        check_folder(out)
        check_heldout(recipe.data.paths()[1])
        _run(recipe, out, work, report, place, ahead)


def _run(
    recipe: Recipe, out: Path, work: Path, report: Callable[[str], None], place: Place, ahead: Path | None
) -> None:
    tokenizer, corpus = prepare(recipe) if ahead is None else prepared(recipe, ahead)
    place.agree(
        corpus.fingerprint,
        f"{recipe.data.paths()[0]} as tokens is not what process 0 has; give all processes the same text",
    )
    report(f"{corpus.documents:,} paragraphs, {len(corpus.stream):,} tokens, {len(corpus.key_words):,} key words")
    batches = BatchMaker(recipe, corpus, tokenizer)
    batches.check()
    model = _make_model(recipe, tokenizer, place)
    report(f"{sum(p.numel() for p in model.parameters()):,} parameters{_where(recipe, place)}")
    try:
        nn.Module.to(model, place.device)
        log = train(recipe, model, batches, WorkFolder(work, recipe, corpus.fingerprint, place), report)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        raise recipe.error(
            "stages: a step needs more memory than there is; choose fewer rows or a shorter length, more parts "
            "(compute.accumulation) or compute.checkpointing: true"
        ) from error
    weights = whole(model.state_dict())
    if place.is_first:
        if recipe.compute.sharded:
            config: Any = model.config
            model = GDN2ForCausalLM(config)
            model.load_state_dict(weights)
            nn.Module.to(model, place.device)
        export(recipe, model, tokenizer, corpus, log, out, processes=place.processes)
        report(f"checkpoint written to {out}")


def _where(recipe: Recipe, place: Place) -> str:
    """Words on where and how steps are computed, if that is not in float32 by one process on the CPU."""
    said = [torch.cuda.get_device_name(place.device)] if place.is_gpu else []
    said += [] if recipe.compute.precision == "float32" else [recipe.compute.precision]
    if place.processes > 1:
        said.append(
            f"{place.processes} processes, " + ("each with a part" if recipe.compute.sharded else "each with all")
        )
    return "".join(f", {words}" for words in said)


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


def _make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast, place: Place) -> GDN2ForCausalLM:
    """The model with fresh weights, which the recipe's seed decides; on the CPU, so that every device has the same.

    It reads two tokens before it is given away, so that sizes which fit no layer are told before training.

    Raises:
        RecipeError: a field of `model` that the config or a layer refuses, or more parameters than memory holds.
    """
    special = tokenizer.eos_token_id
    try:
        config = model_config(recipe, len(tokenizer), special)
        _check_memory(recipe, config, place)
        torch.manual_seed(recipe.seed)
        model = GDN2ForCausalLM(config)
        initialise(model, recipe.initial)
        with torch.no_grad():
            model(input_ids=torch.tensor([[special, special]]), use_cache=False)
    except RecipeError:
        raise
    except Exception as error:  # values of any type reach layers of any kind here
        raise recipe.error(f"model: {reason(error)[:300]}") from error
    return model


def _check_model(recipe: Recipe) -> None:
    """See that a configuration takes the recipe's `model`, before any text is read.

    Raises:
        RecipeError: a field that it does not have, or a value that it refuses.
    """
    try:
        model_config(recipe, recipe.tokenizer.vocab_size)
    except RecipeError:
        raise
    except Exception as error:  # values of any type
        raise recipe.error(f"model: {reason(error)[:300]}") from error


def model_config(recipe: Recipe, vocab_size: int, special: int | None = None) -> GDN2Config:
    """The configuration of a recipe's model.

    Its training length, `max_position_embeddings`, is that of the longest rows, unless the recipe names a longer one.

    Args:
        recipe: its `model` and `stages`.
        vocab_size: of the tokenizer.
        special: the id that begins, ends and pads a text.

    Raises:
        ValueError: the configuration refuses a field.
        RecipeError: a stage's rows are longer than the length that the model is said to be trained at.
    """
    longest = max(stage.length for stage in recipe.stages)
    config = GDN2Config(
        vocab_size=vocab_size, bos_token_id=special, eos_token_id=special, pad_token_id=special,
        **{"max_position_embeddings": longest, **recipe.model},
    )  # fmt: skip
    if config.max_position_embeddings < longest:
        raise recipe.error(
            f"model.max_position_embeddings: {config.max_position_embeddings:,} is the training length, and "
            f"stages have rows of {longest:,} tokens; remove it, or make it as long"
        )
    return config


def _check_memory(recipe: Recipe, config: GDN2Config, place: Place) -> None:
    with torch.device("meta"):  # sizes without values
        parameters = sum(p.numel() for p in GDN2ForCausalLM(config).parameters())
    needed = parameters * BYTES_A_PARAMETER / (place.processes if recipe.compute.sharded else 1)
    if place.is_gpu:
        there, what = torch.cuda.get_device_properties(place.device).total_memory, "GPU"
    else:
        there, what = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "machine"
    if needed > there:
        raise recipe.error(
            f"model: {parameters:,} parameters need {needed / 1e9:,.0f} GB to train and this {what} has "
            f"{there / 1e9:,.0f}; choose smaller sizes"
        )
