"""Show one document as the model will see it."""

from __future__ import annotations

from typing import Any

from tasks import catalog
from tasks.errors import TaskError
from tasks.generators import find_generator
from tasks.tokenizers import encode, load_tokenizer


def show_sample(
    name: str,
    tokenizer_path: str,
    index: int = 0,
    *,
    length: int | None = None,
    seed: int | None = None,
    context_prefix: str = "tokenizer",
) -> dict[str, Any]:
    """Document `index` of a task, with `prompt` (the text as sent, or scored) and its `prompt_tokens`.

    Raises:
        TaskError: an unknown task, no such index, or a tokenizer that cannot be loaded.
        DataNotStaged: its data are not staged.
    """
    task = catalog.resolve(name, length, samples=index + 1, seed=seed)
    generator = find_generator(task.config, load_tokenizer(tokenizer_path), context_prefix=context_prefix)
    if generator is not None:
        doc = generator.sample(index)
    else:
        metadata = {"tokenizer": tokenizer_path, "context_prefix": context_prefix}
        docs = task.config["custom_dataset"](**task.config["dataset_kwargs"], **metadata)["test"]
        if index >= len(docs):
            raise TaskError(f"task {task.info.name!r} has {len(docs)} documents: index must be below that, got {index}")
        doc = dict(docs[index])
    prompt = doc["text"] if "text" in doc else " ".join(filter(None, [doc["input"], doc.get("gen_prefix")]))
    tokens = encode(load_tokenizer(tokenizer_path), prompt, context_prefix)
    return {**doc, "prompt": prompt, "prompt_tokens": len(tokens)}
