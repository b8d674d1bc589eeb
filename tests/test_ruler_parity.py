"""The older generator and lm-eval's: hashes of what the originals made of small data, and lm-eval itself beside ours.

benchmarks/ruler_parity.py made the hashes (`--write`) and compares larger cells on the real data.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruler_data import TASKS, write_ruler_data
from ruler_official import count_regex

from tasks.ruler.generators import DEFAULT_SEEDS
from tasks.ruler.official.generator import draws
from tasks.ruler.spec import RulerSpec
from tasks.subset import text_hash
from tasks.text import words

HASHES = json.loads((Path(__file__).parent / "data" / "ruler_hashes.json").read_text(encoding="utf-8"))
MOST_WORDS = 500
CELLS = [
    (generator, task, int(length), digest)
    for generator, tasks in HASHES.items()
    for task, lengths in tasks.items()
    for length, digest in lengths.items()
]


@pytest.fixture(scope="module", autouse=True)
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(write_ruler_data(tmp_path_factory.mktemp("ruler"))))
        yield


@pytest.fixture
def few_words(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first words of each list, as the older generator was given for its hashes."""
    read = words._lines
    cached = (words.word_lists, words.word_pairs, words.all_words)
    monkeypatch.setattr(words, "_lines", lambda file: read(file)[:MOST_WORDS])
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def drawn(generator: str, task: str, length: int, samples: int) -> list[tuple[str, list[str]]]:
    fields: dict[str, Any] = {"task": task, "length": length, "generator": generator, "seed": DEFAULT_SEEDS[generator]}
    found = itertools.islice(draws(RulerSpec.parse(fields), count_regex), samples)
    return [(sample.prompt, list(sample.outputs)) for sample, _ in found if sample is not None]


def test_every_task_of_both_originals_is_recorded() -> None:
    assert {generator: set(tasks) for generator, tasks in HASHES.items()} == {
        "nvidia-26.3": set(TASKS),
        "lm-eval": set(TASKS),
    }


@pytest.mark.parametrize(("generator", "task", "length", "digest"), CELLS)
def test_what_the_original_made_is_met(
    generator: str, task: str, length: int, digest: str, request: pytest.FixtureRequest
) -> None:
    if generator == "nvidia-26.3":
        request.getfixturevalue("few_words")
    records = ["\x1f".join([prompt, *outputs]) for prompt, outputs in drawn(generator, task, length, 5)]
    assert text_hash("\x1e".join(records)) == digest


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_lm_eval_itself_asks_the_same(task: str) -> None:
    from ruler_lm_eval import lm_eval_samples

    for length in (900, 2048, 4200):
        if task == "qa_2" and length < 2048:
            continue
        assert drawn("lm-eval", task, length, 12) == lm_eval_samples(task, length, 12, count_regex)
