"""Perplexity by position in long documents, the state carried all the way: bits per byte in buckets of tokens.

A document has `length` tokens of the model's tokenizer and one request a bucket: its text behind all text before it. A
model that reads shared beginnings once reads every document once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from basis.names import must_be_one_of, way_out
from tasks import data
from tasks.documents import as_dataset
from tasks.errors import TaskError
from tasks.perplexity.buckets import bucket_ends, cut_at
from tasks.subset import SubsetSpec, choose, text_hash
from tasks.text.tokenizers import TokenCounter, load_tokenizer

if TYPE_CHECKING:
    import datasets

STRIDE = 6
"""Characters, for each token of the length, from one document's start to the next one's, whatever the tokenizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionSpec:
    """`dataset_kwargs: spec:` of a task by position."""

    source: str
    """A name of SOURCES."""
    length: int
    """Tokens of a document."""
    samples: int | None = None
    """None: all documents that the text has."""
    seed: int = 42

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> PositionSpec:
        """Check a mapping from YAML. Raises TaskError that names the field."""
        known = [field.name for field in fields(cls)]
        for name in spec:
            if name not in known:
                raise TaskError(f"spec: unknown field {name!r}; {way_out(name, known)}")
        for name in ("source", "length"):
            if name not in spec:
                raise TaskError(f"spec: field {name!r} is missing")
        if spec["source"] not in SOURCES:
            raise TaskError(f"spec: field 'source' {must_be_one_of(SOURCES, spec['source'])}")
        if type(spec["length"]) is not int:
            raise TaskError(f"spec: field 'length' must be a whole number, got {spec['length']!r}")
        bucket_ends(spec["length"])
        SubsetSpec.parse({"samples": spec.get("samples"), "seed": spec.get("seed", 42)})
        return cls(**spec)


def build(
    spec: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    pretrained: str | None = None,
    max_samples: int | None = None,
    **_lm_eval_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The documents, called by lm-eval with `dataset_kwargs` and its metadata.

    Each has `text`, `ends` (of buckets, in tokens), `cuts` (the same in characters of `text`) and where it comes from.

    Raises:
        TaskError: a wrong field, no tokenizer, or a text shorter than one document.
        DataNotStaged: the text is missing.
    """
    parsed = PositionSpec.parse(spec)
    source = tokenizer or pretrained
    if source is None:
        raise TaskError('positions are counted in tokens: give a tokenizer, --metadata \'{"tokenizer": "PATH"}\'')
    counter = TokenCounter(load_tokenizer(source) if isinstance(source, str) else source)
    places = [
        (number, text, offset)
        for number, text in enumerate(SOURCES[parsed.source]())
        for offset in _starts(text, STRIDE * parsed.length)
    ]
    if not places:
        raise TaskError(
            f"spec: no text of {parsed.source} has {STRIDE * parsed.length} characters for {parsed.length} tokens; "
            "give a shorter 'length'"
        )
    name = f"{parsed.source}_positions"
    chosen = choose(name, places, SubsetSpec(samples=parsed.samples, seed=parsed.seed), max_samples)
    docs = [
        {
            **_document(*place, parsed, counter),
            "task": name,
            "length": parsed.length,
            "index": index,
            "seed": parsed.seed,
        }
        for index, place in enumerate(chosen)
    ]
    return {"test": as_dataset(docs)}


def _starts(text: str, stride: int) -> list[int]:
    """Where documents begin: the first word after every `stride` characters that leave as many behind them."""
    found = []
    for offset in range(0, len(text) - stride + 1, stride):
        start = offset
        while offset and start < len(text) and not (text[start - 1].isspace() and not text[start].isspace()):
            start += 1
        found.append(start)
    return found


def _document(number: int, text: str, offset: int, spec: PositionSpec, counter: TokenCounter) -> dict[str, Any]:
    """The document that begins at this character."""
    ends = bucket_ends(spec.length)
    piece = text[offset : offset + STRIDE * spec.length]
    cuts = cut_at(piece, ends, counter.count, counter.positions if counter.is_fast else None)
    if cuts is None:
        raise TaskError(
            f"spec: {spec.source} at character {offset} has less than {spec.length} tokens in {len(piece)} characters; "
            "this tokenizer's tokens are too long for documents by position"
        )
    kept = piece[: cuts[-1]]
    return {
        "text": kept,
        "ends": ends,
        "cuts": cuts,
        "source": number,
        "offset": offset,
        "sample_hash": text_hash(kept),
    }


def _essays() -> Iterator[str]:
    yield data.essays_text().strip()


def _wiki() -> Iterator[str]:
    yield "\n\n".join(paragraph.text for paragraph in data.wiki_heldout())


def _pg19() -> Iterator[str]:
    for row in data.rows("pg19_test.jsonl"):
        yield row["text"].strip()


SOURCES: dict[str, Callable[[], Iterator[str]]] = {"essay": _essays, "wiki": _wiki, "pg19": _pg19}


class PositionTask:
    """lm-eval's `class:` of these tasks: makes the task object, and imports lm-eval only then."""

    def __new__(cls, config: dict[str, Any]) -> Any:
        """The task object of this configuration."""
        from tasks.perplexity.task import BucketTask

        return BucketTask(config)

    def __init__(self, config: dict[str, Any]) -> None:
        """Not called: lm-eval looks here for whether a class takes `config`."""
