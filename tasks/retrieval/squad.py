"""SQuAD as retrieval: a paragraph, an answerable question, and the answer's words to be produced.

Answered greedily with 48 tokens, of which the first line that is not empty must hold the answer's words. Questions that
are answered without reading are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks import data
from tasks.documents import as_dataset
from tasks.retrieval.prompts import OWN
from tasks.retrieval.unread import is_given_away
from tasks.subset import SubsetSpec, choose, text_hash
from tasks.text.tokenizers import encode, load_tokenizer

if TYPE_CHECKING:
    import datasets

TASK = "squad_retrieval"


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

    A tokenizer only serves to state `prompt_tokens`; without one it is None.

    Raises:
        TaskError: a wrong field.
        DataNotStaged: squad.json is missing.
    """
    parsed = SubsetSpec.parse(spec)
    source = tokenizer or pretrained
    loaded = load_tokenizer(source) if isinstance(source, str) else source
    docs = []
    items = data.squad_items()
    kept = [item for item in items if not is_given_away(item.question, item.answers)]
    for index, item in enumerate(choose(TASK, kept, parsed, max_samples)):
        prompt = OWN.format(context=item.context.strip(), question=item.question)
        docs.append(
            {
                "input": prompt,
                "outputs": list(item.answers),
                "task": TASK,
                "prompt_tokens": len(encode(loaded, prompt, context_prefix)) if loaded is not None else None,
                "id": item.id,
                "title": item.title,
                "index": index,
                "seed": parsed.seed,
                "query": item.question,
                "source_rows": len(items),
                "dropped_rows": len(items) - len(kept),
                "sample_hash": text_hash(prompt, *item.answers),
                "cluster": text_hash(item.context.strip()),
            }
        )
    return {"test": as_dataset(docs)}
