"""The functions of lm-eval's tasks that these tasks use as they are. lm-eval is imported when they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from tasks.score_names import known_as

Doc = Mapping[str, Any]


def hellaswag_docs(dataset: Any) -> Any:
    """HellaSwag's rows with endings and beginnings put together."""
    return _of("hellaswag.utils").process_docs(dataset)


def winogrande_text(doc: Doc) -> int:
    """The index of the right choice, which lm-eval takes for the text of a WinoGrande question."""
    chosen: int = _of("winogrande.preprocess_winogrande").doc_to_text(doc)
    return chosen


def winogrande_target(doc: Doc) -> str:
    """The end of a WinoGrande sentence, which every choice is continued by."""
    text: str = _of("winogrande.preprocess_winogrande").doc_to_target(doc)
    return text


def winogrande_choices(doc: Doc) -> list[str]:
    """The beginnings of a WinoGrande sentence, one for each choice."""
    texts: list[str] = _of("winogrande.preprocess_winogrande").doc_to_choice(doc)
    return texts


def wikitext_text(doc: Doc) -> str:
    """A page of WikiText without the spaces that its tokenisation added."""
    text: str = _of("wikitext.preprocess_wikitext").wikitext_detokenizer(doc)
    return text


@known_as("tasks.commonsense.upstream.wikitext_scores")
def wikitext_scores(doc: Doc, results: Sequence[float]) -> dict[str, tuple[float, int]]:
    """The log-likelihood of a page with its number of words and of bytes."""
    scores: dict[str, tuple[float, int]] = _of("wikitext.preprocess_wikitext").process_results(doc, results)
    return scores


def _of(module: str) -> Any:
    return import_module(f"lm_eval.tasks.{module}")
