"""The documents of RULER's tasks, for lm-eval and for whoever wants a sample: the generator is a field of the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.documents import as_dataset
from tasks.errors import TaskError
from tasks.ruler.exact import Generator
from tasks.ruler.pool import cell, generator_of
from tasks.ruler.spec import RulerSpec
from tasks.text.tokenizers import load_tokenizer

if TYPE_CHECKING:
    import datasets

    from tasks.ruler.official.generator import OfficialGenerator


def build(
    spec: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    pretrained: str | None = None,
    context_prefix: str = "tokenizer",
    max_samples: int | None = None,
    **_lm_eval_metadata: Any,
) -> dict[str, datasets.Dataset]:
    """The documents of one task, called by lm-eval with `dataset_kwargs` and its metadata.

    Args:
        spec: the fields of RulerSpec, and those of Variant for a needle task of one's own.
        tokenizer: folder or hub name of the tokenizer that fills the samples; by default `pretrained`.
        pretrained: the model's folder or hub name, as in lm-eval's model_args.
        context_prefix: which tokens come before the prompt: tokenizer | none | bos | eos | lm-eval.
        max_samples: draw only the first so many samples; the ones drawn are the same.

    Raises:
        TaskError: a wrong field, no tokenizer, or a length too short for the template.
        DataNotStaged: the essays or questions are not staged.
    """
    parsed = RulerSpec.parse(spec)
    source = tokenizer or pretrained
    if not source:
        raise TaskError(
            f"{parsed.task}: samples are filled to the token and need a tokenizer: "
            'pass --metadata \'{"tokenizer": "PATH"}\' or a model with pretrained=PATH'
        )
    loaded = load_tokenizer(source) if isinstance(source, str) else source
    count = parsed.samples if max_samples is None else min(parsed.samples, max_samples)
    return {"test": as_dataset(cell(parsed, loaded, context_prefix=context_prefix, count=count))}


def make_generator(
    spec: Mapping[str, Any], tokenizer: Any, *, context_prefix: str = "tokenizer"
) -> Generator | OfficialGenerator:
    """The generator of a spec from YAML; raises TaskError that names a wrong field."""
    return generator_of(RulerSpec.parse(spec), tokenizer, context_prefix=context_prefix)
