"""The tasks as lm-eval runs them, with models whose right score is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from known_lm import KnownLM
from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from task_data import train_tokenizer, write_data

from tasks.errors import TaskError
from tasks.preview import show_sample
from tasks.registry import resolve
from tasks.task_files import ROOT
from tasks.text.tokenizers import load_tokenizer


@pytest.fixture(scope="module", autouse=True)
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("staged")
    write_data(folder)
    train_tokenizer("metaspace").save_pretrained(folder / "tokenizer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        yield str(folder / "tokenizer")


def evaluate(lm: LM, tasks: list[Any], **metadata: Any) -> dict[str, Any]:
    manager = TaskManager(include_path=str(ROOT), include_defaults=False, metadata=metadata)
    return simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=10)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("mute", "score"), [(False, 1.0), (True, 0.0)])
def test_a_right_model_scores_exactly_one_and_a_mute_one_zero(tokenizer_folder: str, mute: bool, score: float) -> None:
    named = ["gdn2_niah_single_1_512", "gdn2_niah_single_3_512", "gdn2_squad_retrieval"]
    between = resolve("niah_multikey_1@700", samples=3)
    lm = KnownLM(mute=mute)
    results = evaluate(lm, [*named, between.config], tokenizer=tokenizer_folder, max_samples=4)["results"]
    assert {name: results[name]["acc,none"] for name in (*named[:2], between.lm_eval_name)} == {
        named[0]: score,
        named[1]: score,
        between.lm_eval_name: score,
    }
    assert results[named[2]]["contains,none"] == score
    assert results[named[0]]["acc_stderr,none"] == 0.0
    assert results[between.lm_eval_name]["sample_len"] == 3
    assert results[named[0]]["sample_len"] == 4


def test_requests_end_without_a_space_and_have_the_stated_length(tokenizer_folder: str) -> None:
    lm = KnownLM(mute=True)
    run = evaluate(lm, ["gdn2_niah_single_2_1024"], pretrained=tokenizer_folder, max_samples=3)
    samples = run["samples"]["gdn2_niah_single_2_1024"]
    tokenizer = load_tokenizer(tokenizer_folder)
    for sample, prompt in zip(samples, lm.prompts, strict=True):
        doc = sample["doc"]
        assert prompt.endswith("mentioned in the provided text is")
        assert prompt == f"{doc['input']} {doc['gen_prefix']}"
        assert len(tokenizer(prompt).input_ids) == doc["prompt_tokens"]
    config = run["configs"]["gdn2_niah_single_2_1024"]
    assert config["generation_kwargs"] == {"until": [], "do_sample": False, "max_gen_toks": 128}


def test_perplexity_counts_the_bytes_of_the_text() -> None:
    results = evaluate(KnownLM(mute=True), ["gdn2_wiki_perplexity"], max_samples=5)["results"]["gdn2_wiki_perplexity"]
    assert results["bits_per_byte,none"] == pytest.approx(1 / math.log(2))
    assert results["byte_perplexity,none"] == pytest.approx(math.e)
    assert results["word_perplexity,none"] > results["byte_perplexity,none"]


def test_fewer_samples_are_a_prefix_of_more() -> None:
    for name in ("squad_retrieval", "wiki_perplexity"):
        task = resolve(name, samples=9)
        build, spec = task.config["custom_dataset"], task.config["dataset_kwargs"]["spec"]
        many, few = build(spec)["test"], build(spec, max_samples=4)["test"]
        assert many["sample_hash"][:4] == few["sample_hash"][:]
        assert many["sample_hash"][:] != build({**spec, "seed": 1})["test"]["sample_hash"][:]
        with pytest.raises(TaskError, match="unknown field 'sample'"):
            build({"sample": 3})


def test_only_answerable_questions_are_asked() -> None:
    docs = resolve("squad_retrieval").config["custom_dataset"]({"samples": 100})["test"]
    assert len(docs) == 16
    assert all(len(doc["outputs"]) == 1 and doc["input"].endswith("?\nAnswer:") for doc in docs)


@pytest.mark.parametrize("name", ["niah_single_1@512", "squad_retrieval", "wiki_perplexity"])
def test_a_sample_can_be_shown_with_its_token_count(tokenizer_folder: str, name: str) -> None:
    doc = show_sample(name, tokenizer_folder, index=2)
    assert doc["index"] == 2
    assert doc["prompt_tokens"] == len(load_tokenizer(tokenizer_folder)(doc["prompt"]).input_ids)


def test_wrong_requests_for_a_sample_are_explained(tokenizer_folder: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="has 12 documents: index must be below that, got 99"):
        show_sample("wiki_perplexity", tokenizer_folder, index=99)
    with pytest.raises(TaskError, match="no such folder"):
        show_sample("niah_single_1@512", str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TaskError, match="cannot be loaded"):
        show_sample("niah_single_1@512", str(tmp_path))
