"""`check`: whether a checkpoint reproduces the validation loss that its training reported.

A wrong activation or a swapped matrix still gives plausible scores; it does not give this number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from basis.files import parse_json, read_text, split_lines
from harness.checkpoints.find import find_checkpoint, find_tokenizer
from harness.engine.meter import Status, no_status
from harness.errors import UserError

if TYPE_CHECKING:
    from gdn2.checkpoints.loss import Window
    from gdn2.model import GDN2ForCausalLM

HINT_TOKENS = 65_536  # on which variants are tried; the best is then measured on all
BESIDE = ("eos", "none")  # the context prefixes whose loss is shown where `tokenizer` is a guess


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """What the command line says.

    Attributes:
        text: a text file, one document; or .jsonl with a document a line in its field "text".
        expect_loss: nats a token, as training reported it.
        tolerance: nats; a larger difference is a failure.
        length: tokens of a window (default: the config's training length).
        num_tokens: predict at most that many tokens, from the beginning (default: all).
        hints: whether to look for the mistake when the loss is off.
    """

    checkpoint: str
    text: Path
    expect_loss: float
    tolerance: float = 0.01
    length: int | None = None
    num_tokens: int | None = None
    context_prefix: str = "tokenizer"
    batch_size: int = 1
    device: str = "auto"
    dtype: str = "auto"
    tokenizer: str | None = None
    hints: bool = True


@dataclass(frozen=True)
class Hint:
    """One variant's loss on the same text; `exact` if it was measured on all of it."""

    name: str
    remedy: str
    loss: float
    exact: bool
    reproduces: bool


@dataclass(frozen=True)
class CheckResult:
    """The outcome.

    Attributes:
        bits_per_byte: over the bytes of all documents.
        guess: what is to be said of the context prefix, if it is a guess.
        beside: the loss behind other prefixes then, by name.
    """

    checkpoint: str
    loss: float
    expected: float
    tolerance: float
    num_tokens: int
    num_windows: int
    length: int
    num_documents: int
    prefix: tuple[str, ...]
    bits_per_byte: float
    dtype: str
    hints: tuple[Hint, ...] = field(default=())
    guess: str | None = None
    beside: dict[str, float] = field(default_factory=dict)

    @property
    def difference(self) -> float:
        """Measured minus expected loss, in nats a token."""
        return self.loss - self.expected

    @property
    def reproduces(self) -> bool:
        """Whether the loss is within the tolerance."""
        return abs(self.difference) <= self.tolerance

    def to_json(self) -> str:
        """All of it as JSON, for `--json`."""
        return json.dumps({**asdict(self), "difference": self.difference, "reproduces": self.reproduces}, indent=2)


@dataclass(frozen=True)
class Stream:
    """Documents as one stream of tokens, each behind its context prefix."""

    ids: list[int]
    num_bytes: int
    num_documents: int
    prefix: tuple[str, ...]


def check(options: CheckOptions, status: Status = no_status) -> CheckResult:
    """Measure the loss, and when it is off, that of likely mistakes.

    Raises:
        UserError, TaskError, gdn2.checkpoints.CheckpointError: with the way out.
    """
    from gdn2.checkpoints import choose_dtype, load_checkpoint
    from gdn2.checkpoints.importers import is_native
    from gdn2.checkpoints.loss import windows
    from harness.checkpoints.imports import cached_import, prefix_guess
    from harness.engine.memory import chosen_device
    from tasks.text.tokenizers import load_tokenizer

    _check_options(options)
    path = find_checkpoint(options.checkpoint)
    documents = read_documents(options.text)
    own = find_tokenizer(options.tokenizer) if options.tokenizer else None
    if own:
        load_tokenizer(own)  # before an import, which takes long
    if not is_native(path):
        path = cached_import(path, Path(own).expanduser() if own else None, status=status).folder
    tokenizer_path = own or str(path)  # the import's, as a run takes it
    tokenizer = load_tokenizer(tokenizer_path)
    stream = make_stream(tokenizer, documents, options.context_prefix)
    device = chosen_device(options.device)
    dtype = choose_dtype(path, options.dtype, device)
    with status(f"loading {path}"):
        model = load_checkpoint(path, dtype=dtype, device=device)
    _check_vocabulary(stream, model, tokenizer_path)
    length = options.length or model.config.max_position_embeddings
    ids = stream.ids[: options.num_tokens + 1] if options.num_tokens else stream.ids
    if len(ids) < 2:
        raise UserError(f"{options.text}: holds fewer than two tokens; give a longer text")
    cut = windows(len(ids), length)
    measure = _measure(ids, options.batch_size, status)
    loss = measure(model, cut, "loss")
    share = loss.num_tokens / max(len(stream.ids) - 1, 1)
    result = CheckResult(
        checkpoint=options.checkpoint,
        loss=loss.mean,
        expected=options.expect_loss,
        tolerance=options.tolerance,
        num_tokens=loss.num_tokens,
        num_windows=len(cut),
        length=length,
        num_documents=stream.num_documents,
        prefix=stream.prefix,
        bits_per_byte=loss.nats / math.log(2) / (stream.num_bytes * share),
        dtype=dtype,
        guess=prefix_guess(path, options.context_prefix),
    )
    if result.guess:
        streams = {name: make_stream(tokenizer, documents, name).ids[: len(ids)] for name in _beside(tokenizer)}
        losses = {
            name: _measure(other, options.batch_size, status)(model, windows(len(other), length), f"loss with {name}")
            for name, other in streams.items()
            if len(other) > 1
        }
        result = replace(result, beside={name: loss.mean for name, loss in losses.items()})
    if result.reproduces or not options.hints:
        return result
    return replace(result, hints=tuple(find_hints(model, cut, result, measure)))


def find_hints(
    model: GDN2ForCausalLM, cut: list[Window], result: CheckResult, measure: Callable[..., Any]
) -> list[Hint]:
    """Measure the loss of every variant, the nearest to the expected one first.

    They are tried on the first windows, and those that could be it are measured on all.
    """
    from gdn2.checkpoints.variants import variants, with_variant

    few: list[Window] = []
    for window in cut:
        if sum(taken.num_predicted for taken in few) >= HINT_TOKENS:
            break
        few.append(window)
    whole = len(few) == len(cut)
    shift = 0.0 if whole else result.loss - measure(model, few, "the first windows").mean
    found = []
    for variant in variants(model.config):  # type: ignore[arg-type]
        other = with_variant(model, variant)
        loss, exact = measure(other, few, variant.name).mean + shift, whole
        if not whole and abs(loss - result.expected) < abs(result.difference) / 2:
            loss, exact = measure(other, cut, variant.name).mean, True
        reproduces = exact and abs(loss - result.expected) <= result.tolerance
        found.append(Hint(variant.name, variant.remedy, loss, exact, reproduces))
    return sorted(found, key=lambda hint: abs(hint.loss - result.expected))


def read_documents(file: Path) -> list[str]:
    """The documents of a text file (one) or of a .jsonl (the field "text" of each line).

    Raises:
        UserError: it holds no text, or a line without that field.
        FileError: it cannot be read, is not UTF-8, or a line is not JSON.
    """
    text = read_text(file)
    if file.suffix != ".jsonl":
        documents = [text]
    else:
        documents = []
        for number, line in enumerate(split_lines(text), start=1):
            if not line.strip():
                continue
            row = parse_json(line, str(file), number)
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UserError(f'--text {file}:{number}: expected an object with the field "text", a string')
            documents.append(row["text"])
    if not any(documents):
        raise UserError(f"--text {file}: holds no text")
    return documents


def make_stream(tokenizer: Any, documents: list[str], context_prefix: str) -> Stream:
    """Documents one after the other, each behind the context prefix; nothing is appended."""
    from tasks.text.tokenizers import prefix_ids

    prefix = prefix_ids(tokenizer, context_prefix)
    ids: list[int] = []
    for document in documents:
        ids += prefix + list(tokenizer.encode(document, add_special_tokens=False))
    num_bytes = sum(len(document.encode()) for document in documents)
    return Stream(ids, num_bytes, len(documents), tuple(tokenizer.convert_ids_to_tokens(prefix)))


def _measure(ids: list[int], batch_size: int, status: Status) -> Callable[..., Any]:
    from gdn2.checkpoints.loss import mean_loss

    def measure(model: GDN2ForCausalLM, cut: list[Window], title: str) -> Any:
        total, seen = sum(window.num_predicted for window in cut), 0
        with status(f"{title}: 0 of {total:,} tokens") as update:

            def done(count: int) -> None:
                nonlocal seen
                seen += count
                update(f"{title}: {seen:,} of {total:,} tokens")

            return mean_loss(model, ids, cut, batch_size=batch_size, done=done)

    return measure


def _beside(tokenizer: Any) -> list[str]:
    return [name for name in BESIDE if name == "none" or tokenizer.eos_token_id is not None]


def _check_options(options: CheckOptions) -> None:
    for name in ("length", "num_tokens", "batch_size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if not options.expect_loss > 0 or not math.isfinite(options.expect_loss):
        raise UserError(f"--expect-loss must be a positive number of nats a token, got {options.expect_loss}")
    if not options.tolerance > 0:
        raise UserError(f"--tolerance must be a positive number of nats, got {options.tolerance}")


def _check_vocabulary(stream: Stream, model: GDN2ForCausalLM, tokenizer: str) -> None:
    largest, rows = max(stream.ids), int(model.config.vocab_size)
    if largest >= rows:
        raise UserError(
            f"tokenizer {tokenizer}: makes the id {largest} but the model has {rows} embeddings; it is another "
            "model's, give the right one with --tokenizer"
        )
