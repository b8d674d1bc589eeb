"""The recall tasks of Just Read Twice: documents cut around the answer, asked once or with the document read twice.

Greedy, 48 tokens, up to the first newline, scored by containment. Every document says what was cut of it. Over data
sets that are not the papers' (SQuAD and HotpotQA as staged), the cut is theirs, prompt and score are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from basis.names import must_be_one_of, way_out
from tasks.documents import as_dataset
from tasks.errors import TaskError
from tasks.retrieval.prompts import RULES
from tasks.retrieval.rows import SOURCES, Row, load
from tasks.retrieval.window import ANSWER_LENGTH, cut
from tasks.scoring import contains, find_words
from tasks.subset import SubsetSpec, choose, text_hash
from tasks.text.tokenizers import encode, load_tokenizer

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, kw_only=True, slots=True)
class JrtSpec:
    """`dataset_kwargs: spec:` of a recall task."""

    source: str
    """A name of SOURCES."""
    length: int
    """The protocol's context length in tokens; the window has 50 less."""
    reads: int = 1
    """1: the document once; 2: question, document, document, question."""
    samples: int | None = None
    """None: all documents."""
    seed: int = 42

    @classmethod
    def parse(cls, spec: Mapping[str, Any]) -> JrtSpec:
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
        if type(spec["length"]) is not int or spec["length"] <= ANSWER_LENGTH + 1:
            raise TaskError(
                f"spec: field 'length' must be more than {ANSWER_LENGTH + 1} tokens (the window has {ANSWER_LENGTH} "
                f"less), got {spec['length']!r}"
            )
        if spec.get("reads", 1) not in (1, 2):
            raise TaskError(f"spec: field 'reads' must be 1 or 2, got {spec['reads']!r}")
        SubsetSpec.parse({"samples": spec.get("samples"), "seed": spec.get("seed", 42)})
        return cls(**spec)


def build(
    spec: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    pretrained: str | None = None,
    context_prefix: str = "tokenizer",
    max_samples: int | None = None,
    **_lm_eval_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The documents, called by lm-eval with `dataset_kwargs` and its metadata.

    Args:
        spec: the fields of JrtSpec.
        tokenizer: folder or hub name of the tokenizer whose tokens the window counts, or the tokenizer; by default
            `pretrained`.
        pretrained: the model's folder or hub name, as in lm-eval's model_args.
        context_prefix: for `prompt_tokens` only; the cut counts what the tokenizer adds by itself, as its source does.
        max_samples: only the first so many documents; the ones chosen are the same.

    Raises:
        TaskError: a wrong field, no tokenizer, or changed columns.
        DataNotStaged: the data set is missing.
    """
    parsed = JrtSpec.parse(spec)
    source = tokenizer or pretrained
    if source is None:
        raise TaskError('the window is counted in tokens: give a tokenizer, --metadata \'{"tokenizer": "PATH"}\'')
    loaded = load_tokenizer(source) if isinstance(source, str) else source
    rows, dropped = load(SOURCES[parsed.source])
    name = _task_name(parsed.source)  # once and twice ask the same documents
    chosen = choose(name, rows, SubsetSpec(samples=parsed.samples, seed=parsed.seed), max_samples)
    docs = [
        _document(row, parsed, loaded, context_prefix)
        | {"index": index, "source_rows": len(rows) + dropped, "dropped_rows": dropped}
        for index, row in enumerate(chosen)
    ]
    return {"test": as_dataset(docs)}


def _document(row: Row, spec: JrtSpec, tokenizer: Any, context_prefix: str) -> dict[str, Any]:
    source = SOURCES[spec.source]
    window = cut(
        row.parts.text,
        tokenizer,
        spec.length,
        around=row.around,
        otherwise=row.otherwise,
        token_position=row.token_position,
        find=find_words if source.is_own else None,
    )
    prompt = RULES[source.rule][spec.reads - 1](replace(row.parts, text=window.text))
    if source.is_own:
        in_prompt = any(find_words(label, prompt) >= 0 for label in row.labels)
    else:
        in_prompt = bool(contains(prompt, row.labels))
    return {
        "input": prompt,
        "outputs": list(row.labels),
        "task": _task_name(spec.source) + ("_twice" if spec.reads == 2 else ""),
        "length": spec.length,
        "query": row.parts.asked,
        "id": row.id,
        "seed": spec.seed,
        "prompt_tokens": len(encode(tokenizer, prompt, context_prefix)),
        "document_tokens": window.document_tokens,
        "window": [window.start, window.end],
        "is_cut": window.is_cut,
        "answer_found": window.found,
        "answer_in_prompt": in_prompt,
        "sample_hash": text_hash(prompt, *row.labels),
        "cluster": text_hash(row.parts.document),
    }


def _task_name(source: str) -> str:
    """What a source's task is called, read once."""
    return source if source.startswith("olmo_") else f"jrt_{source}"
