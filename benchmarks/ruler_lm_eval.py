"""What lm-eval's own RULER functions make, one task at one length, as if nothing else had been run before.

Replaced are what they fetch from the network (essays, questions, NLTK's model) and the tokenizer; importing them takes
some ten seconds, for they make six million word pairs.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tasks import data
from tasks.ruler.spec import VARIANTS
from tasks.ruler.templates import QUESTION_SOURCES
from tasks.text import sentences

NUMPY_SEED = 1234


class Counted:
    """Stands for a tokenizer: a call gives as many ids as `count` says."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count

    def __call__(self, text: str) -> Any:
        return type("Encoded", (), {"input_ids": range(self._count(text))})


def lm_eval_samples(
    task: str, length: int, samples: int, count: Callable[[str], int], *, seed: int = 0
) -> list[tuple[str, list[str]]]:
    """Prompts, as lm-eval joins them, and answers. `count` is of a text's tokens with special tokens."""
    import nltk

    nltk.data.find = lambda *_, **__: True
    nltk.sent_tokenize = sentences.split
    tokenizer = Counted(count)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        docs = _documents(task, length, samples, tokenizer, seed)
    delimiter = "\n\n" if task == "cwe" else " "
    return [(f"{doc['input']}{delimiter}{doc['gen_prefix']}", list(doc["outputs"])) for doc in docs]


def _documents(task: str, length: int, samples: int, tokenizer: Counted, seed: int) -> list[dict[str, Any]]:
    from lm_eval.tasks.ruler import cwe_utils, fwe_utils, vt_utils

    if task == "cwe":  # its word list and every list's order come from one generator, made at import
        cwe_utils.RNG = random.Random(42)
        cwe_utils.WORDS.sort()
        cwe_utils.RNG.shuffle(cwe_utils.WORDS)
    random.seed(seed)
    np.random.seed(NUMPY_SEED)
    if task in VARIANTS:
        return _needles(task, length, samples, tokenizer)
    if task in QUESTION_SOURCES:
        return _questions(QUESTION_SOURCES[task], length, samples, tokenizer)
    if task == "cwe":
        return list(cwe_utils.sys_word_pair_random(num_samples=samples, max_seq_length=length, tokenizer=tokenizer))
    if task == "fwe":
        return list(fwe_utils.sys_kwext(tokenizer, length, samples))
    make = vt_utils.sys_vartrack_w_noise_random
    example = make(tokenizer=tokenizer, num_samples=1, max_seq_length=500, incremental=5)[0]
    return list(make(tokenizer=tokenizer, num_samples=samples, max_seq_length=length, icl_example=example))


def _needles(task: str, length: int, samples: int, tokenizer: Counted) -> list[dict[str, Any]]:
    from lm_eval.tasks.ruler import niah_utils, prepare_niah

    prepare_niah.sent_tokenize = sentences.split
    variant = VARIANTS[task]
    kind = "repeat" if variant.haystack == "noise" else variant.haystack
    if kind == "essay":
        haystack: Any = re.sub(r"\s+", " ", data.essays_text()).split(" ")
    else:
        haystack = prepare_niah.get_haystack(kind)
    return list(
        prepare_niah.generate_samples(
            haystack,
            tokenizer,
            max_seq_length=length,
            type_haystack=kind,
            type_needle_k=variant.key,
            type_needle_v=variant.value,
            template=niah_utils.TEMPLATE,
            num_samples=samples,
            num_needle_k=1 if task == "niah_multiquery" else variant.needles,
            num_needle_v=variant.values,
            num_needle_q=variant.queries,
        )
    )


def _questions(source: str, length: int, samples: int, tokenizer: Counted) -> list[dict[str, Any]]:
    from lm_eval.tasks.ruler import qa_utils

    qa_utils.download_json = lambda _url: data.read_json(data.path(f"{source}.json"))
    read = qa_utils.read_squad if source == "squad" else qa_utils.read_hotpotqa
    questions, documents = read.__wrapped__()
    return list(qa_utils.generate_samples(tokenizer, documents, questions, length, num_samples=samples))
