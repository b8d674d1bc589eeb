"""Show one document as the model will see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks import catalog
from tasks.errors import TaskError
from tasks.generators import find_generator
from tasks.text.planting import join_prompt
from tasks.text.tokenizers import encode, load_tokenizer


def show_sample(
    name: str,
    tokenizer_path: str,
    index: int = 0,
    *,
    length: int | None = None,
    seed: int | None = None,
    context_prefix: str = "tokenizer",
    generator: str | None = None,
    shots: int | None = None,
) -> dict[str, Any]:
    """Document `index` of a task, with `prompt` (the text as sent, or scored) and its `prompt_tokens`.

    Raises:
        TaskError: an unknown task, no such index, or a tokenizer that cannot be loaded.
        DataNotStaged: its data are not staged.
    """
    if index < 0:
        raise TaskError(f"index must be at least 0, got {index}")
    task = catalog.resolve(name, length, seed=seed, generator=generator, shots=shots)
    maker = find_generator(task.config, load_tokenizer(tokenizer_path), context_prefix=context_prefix)
    if maker is not None:
        doc = maker.sample(index)
    else:
        task = catalog.resolve(name, length, samples=index + 1, seed=seed, shots=shots)
        metadata = {"tokenizer": tokenizer_path, "context_prefix": context_prefix}
        docs = task.config["custom_dataset"](**task.config["dataset_kwargs"], **metadata)["test"]
        if index >= len(docs):
            raise TaskError(f"task {task.info.name!r} has {len(docs)} documents: index must be below that, got {index}")
        doc = dict(docs[index])
    if "input" in doc:
        prompt = join_prompt(doc["input"], doc.get("gen_prefix") or "")
    elif task.config["doc_to_target"] == "text":
        prompt = doc["text"]
    else:
        doc, prompt = _rendered(task.config, doc)
    tokens = encode(load_tokenizer(tokenizer_path), prompt, context_prefix)
    return {**doc, "prompt": prompt, "prompt_tokens": len(tokens)}


def _rendered(config: Mapping[str, Any], doc: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A document of a task whose text lm-eval puts together, with `outputs`; its prompt with the choices below it."""
    from lm_eval.api.task import ConfigurableTask

    shots = config.get("num_fewshot") or 0
    task = ConfigurableTask(config={**config, "num_fewshot": shots})
    task.set_fewshot_seed(seed=1234)
    found = next(item for item in task.eval_docs if item.get("index") == doc["index"])
    made = task.construct_requests(found, task.fewshot_context(found, shots), metadata=(config["task"], 0, 1))
    arguments = [request.args for request in (made if isinstance(made, list) else [made])]
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return dict(found), str(arguments[0][0])
    if task.OUTPUT_TYPE == "generate_until":
        return {**found, "outputs": [str(task.doc_to_target(found))]}, str(arguments[0][0])
    contexts = list(dict.fromkeys(context for context, _ in arguments))
    continuations = list(dict.fromkeys(continuation for _, continuation in arguments))
    return dict(found), "\n".join([*contexts, *(f"→{continuation}" for continuation in continuations)])
