"""The lm-eval task with one log-likelihood request a bucket."""

from __future__ import annotations

from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from tasks.perplexity.buckets import first_word, parts


class BucketTask(ConfigurableTask):  # type: ignore[misc]
    """As its YAML says, but a document's requests are its buckets, each behind the text before it."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **kwargs: Any) -> list[Instance]:
        """One request a bucket: its text, after all that comes before it."""
        del ctx
        kept = {name: kwargs[name] for name in ("metadata",) if name in kwargs}
        found, context = [], doc["text"][: first_word(doc["text"])]
        for number, part in enumerate(parts(doc)):
            arguments = (context, part)
            found.append(Instance(request_type="loglikelihood", doc=doc, arguments=arguments, idx=number, **kept))
            context += part
        return found
