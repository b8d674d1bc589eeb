"""Features of lm-eval's tasks that few use, sample by sample beside its HFLM: shots, several inputs, filters, chats."""

from __future__ import annotations

import math
from typing import Any

import datasets
import pytest
from fakes import small_checkpoint
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from harness.lm.model import GDN2LM

WORDS = ("quick", "brown", "fox", "lazy", "dog")
ROWS = [
    {"q": f"The {word} {i}?", "choices": [*WORDS[i:], *WORDS[:i]], "gold": i % 3, "cue": "It is", "place": i}
    for i, word in enumerate(WORDS)
]
SAYS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
CHOICE = {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "choices", "doc_to_target": "gold"}
TEXT = {"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{choices[gold]}}"}
FIRST = {"function": "take_first"}
SEVERAL_INPUTS = {"doc_to_text": lambda doc: doc["gold"], "doc_to_choice": "choices", "doc_to_target": "jumps over"}


def rows(**_: Any) -> dict[str, datasets.Dataset]:
    return {"test": datasets.Dataset.from_list(ROWS), "train": datasets.Dataset.from_list(ROWS[::-1])}


def scored(doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
    margin = results[0][0] - results[1][0]
    return {"margin": margin, "pair": (doc["place"], margin)} | ({"odd": 1.0} if doc["place"] % 2 else {})


def spread(pairs: list[tuple[int, float]]) -> float:
    return max(value for _, value in pairs) - min(value for _, value in pairs)


def metrics(*names: str) -> dict[str, Any]:
    return {"metric_list": [{"metric": name} for name in names]}


TASKS: dict[str, dict[str, Any]] = {
    "mutual information, bytes": {**CHOICE, **metrics("acc", "acc_bytes", "acc_mutual_info", "brier_score")},
    "Jinja list, two right": {**CHOICE, "doc_to_choice": "{{choices[:3]}}", "doc_to_target": "[0, 2]"},
    "mapping, odd delimiter": {**CHOICE, "doc_to_choice": {"a": "no", "b": "yes"}, "target_delimiter": "\n\n"},
    "several inputs": {**CHOICE, **SEVERAL_INPUTS, "num_fewshot": 2, "fewshot_split": "train"},
    "shots of their own form": {
        **CHOICE,
        "num_fewshot": 2,
        "description": "About {{place}}.\n",
        "fewshot_split": "train",
        "fewshot_delimiter": "##",
        "fewshot_config": {"sampler": "first_n", "doc_to_text": "Q {{q}}", "target_delimiter": "\t"},
    },
    "listed shots, a prefix": {
        **CHOICE,
        "num_fewshot": 1,
        "gen_prefix": "{{cue}}",
        "fewshot_config": {"samples": ROWS[:2]},
    },
    "drawn from the test": {**CHOICE, "num_fewshot": 3, "fewshot_split": "test", "fewshot_delimiter": ""},
    "own scores": {
        **CHOICE,
        "process_results": scored,
        "metric_list": [
            {"metric": "margin", "aggregation": "median", "higher_is_better": False},
            {"metric": "pair", "aggregation": spread, "higher_is_better": False},
            {"metric": "odd", "aggregation": "mean", "higher_is_better": True},
        ],
    },
    "perplexity of a word": {**CHOICE, "output_type": "loglikelihood", "doc_to_target": " {{choices[0]}}"},
    "perplexities of texts": {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{q}} a"},
    "repeats and filters": {
        **TEXT,
        "repeats": 3,
        "generation_kwargs": {"until": ["o", "\n"], "max_gen_toks": 6, "temperature": 0},
        "filter_list": [
            {"name": "most", "filter": [{"function": "take_first_k", "k": 2}, {"function": "majority_vote"}, FIRST]},
            {"name": "word", "filter": [{"function": "regex", "regex_pattern": "([a-z]+)"}, FIRST]},
        ],
    },
    "stops at the delimiter": {**TEXT, "fewshot_delimiter": "e", "generation_kwargs": {"max_gen_toks": 9}},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[GDN2LM, HFLM]:
    folder = small_checkpoint(tmp_path_factory.mktemp("model"))
    theirs, ours = HFLM(pretrained=str(folder), batch_size=1, device="cpu", dtype="float32"), GDN2LM(str(folder))
    theirs.tokenizer.chat_template = ours.tokenizer.chat_template = SAYS
    return ours, theirs


def result_of(model: Any, config: dict[str, Any], **asked: Any) -> dict[str, Any]:
    own = {"task": "mine", "custom_dataset": rows, "test_split": "test", "metadata": {"version": 1}}
    loaded = TaskManager(include_defaults=False).load([{**own, **config}])
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(1234)
    found = evaluate(model, loaded, bootstrap_iters=10, **asked)
    return {name: found[name] for name in ("results", "samples", "n-shot", "higher_is_better", "n-samples")}


def differences(ours: Any, theirs: Any, trail: str = "") -> list[str]:
    """Where two results are not the same, numbers to float32's rounding."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return [each for key in ours for each in differences(ours[key], theirs[key], f"{trail}.{key}")]
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [each for i, (a, b) in pairs for each in differences(a, b, f"{trail}[{i}]")]
    if hasattr(ours, "tolist") and hasattr(theirs, "tolist"):
        return differences(ours.tolist(), theirs.tolist(), trail)
    if isinstance(ours, float) and isinstance(theirs, float):
        return [] if math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-4) else [f"{trail}: {ours} {theirs}"]
    return [] if ours == theirs else [f"{trail}: {ours!r} {theirs!r}"]


@pytest.mark.parametrize("name", TASKS)
def test_samples_and_scores_are_those_of_hflm(models: tuple[GDN2LM, HFLM], name: str) -> None:
    ours, theirs = (result_of(model, TASKS[name]) for model in models)
    assert len(ours["samples"]["mine"]) >= len(ROWS)
    assert differences(ours, theirs) == []


@pytest.mark.parametrize("name", ["several inputs", "shots of their own form", "listed shots, a prefix"])
@pytest.mark.parametrize("turns", [False, True])
def test_chats_with_a_system_message_are_those_of_hflm(models: tuple[GDN2LM, HFLM], name: str, turns: bool) -> None:
    chat = {"apply_chat_template": True, "fewshot_as_multiturn": turns, "system_instruction": "Be  odd. "}
    ours, theirs = (result_of(model, TASKS[name], **chat) for model in models)
    assert "<system>Be  odd. " in ours["samples"]["mine"][0]["arguments"][0][0]
    assert differences(ours, theirs) == []


@pytest.mark.parametrize("asked", [{"limit": 0.3}, {"samples": {"mine": [4, 1]}}])
def test_a_part_of_the_documents_is_hflms(models: tuple[GDN2LM, HFLM], asked: dict[str, Any]) -> None:
    ours, theirs = (result_of(model, TASKS["drawn from the test"], **asked) for model in models)
    assert ours["n-samples"]["mine"] == {"original": 5, "effective": 2}
    assert differences(ours, theirs) == []
