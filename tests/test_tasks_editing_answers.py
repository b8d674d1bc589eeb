"""Memory editing: models that fail differently get different, exact figures.

The answerers read nothing but the prompt, so they also show that a prompt holds all that is needed.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from editing_tasks import (
    SPECS,
    at_random,
    echo,
    edit_generator,
    first_writes,
    history,
    last_write_only,
    never_erasing,
    over_erasing,
    perfect,
    prompt_of,
)
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from harness.lm.evaluate import evaluate_tasks, load_task
from harness.records.cells import make_cell, task_protocol
from tasks.editing import scoring
from tasks.editing.edits import build
from tasks.registry import resolve
from tasks.task_files import ROOT

pytestmark = pytest.mark.usefixtures("data_folder")


def ask(answer: Callable[[str], str], doc: dict[str, Any]) -> str:
    return scoring.outcome(doc, answer(prompt_of(doc)))


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("overwrite", " 22. It was 11.", "right"),
        ("overwrite", " 11, then 22.", "stale"),
        ("overwrite", " 33", "swapped"),
        ("overwrite", " 221", "other"),
        ("overwrite", " \n", "mute"),
        ("forget_withdrawn", " none. That of b is 33.", "withheld"),
        ("forget_withdrawn", "", "withheld"),
        ("forget_withdrawn", " 77", "withheld"),
        ("forget_withdrawn", " 11, which is void", "leaked"),
        ("forget_kept", " None, 22 was withdrawn", "denied"),
        ("forget_kept", " 22, not none", "right"),
        ("forget_kept", " 77", "other"),
    ],
)
def test_the_first_value_of_an_answer_decides(question: str, answer: str, expected: str) -> None:
    roles = ["leaked" if question == "forget_withdrawn" else "stale", "right", "swapped"]
    assert scoring.outcome({"question": question, "values": ["11", "22", "33"], "roles": roles}, answer) == expected


EXPECTED: dict[str, tuple[Callable[[str], str], dict[str, dict[str, float]]]] = {
    "perfect": (
        perfect,
        {
            "edit_overwrite": {"acc": 1, "stale": 0, "other": 0},
            "edit_retention": {"acc": 1, "scrambled": 0, "edited": 0},
            "edit_forget": {"acc": 1, "withheld": 1, "leaked": 0, "recall": 1},
            "mqar": {"acc": 1},
        },
    ),
    "never erasing": (
        never_erasing,
        {
            "edit_overwrite": {"acc": 0, "stale": 1, "other": 0},
            "edit_retention": {"acc": 1, "scrambled": 0, "edited": 0},
            "edit_forget": {"acc": 0, "withheld": 0, "leaked": 1, "recall": 1},
        },
    ),
    "over-erasing": (
        over_erasing,
        {
            "edit_overwrite": {"acc": 1, "stale": 0, "other": 0},
            "edit_retention": {"acc": 0, "other": 1, "scrambled": 0},
            "edit_forget": {"acc": 0, "withheld": 1, "leaked": 0, "recall": 0, "other": 1},
        },
    ),
    "mute": (
        lambda _: "",
        {
            "edit_overwrite": {"acc": 0, "mute": 1},
            "edit_retention": {"acc": 0, "mute": 1},
            "edit_forget": {"acc": 0, "withheld": 1, "recall": 0, "mute": 1},
            "mqar": {"acc": 0, "mute": 1},
        },
    ),
    "always none": (
        lambda _: " none.",
        {"edit_forget": {"acc": 0, "withheld": 1, "recall": 0, "denied": 1}, "edit_retention": {"acc": 0, "other": 1}},
    ),
    "repeats the question": (
        lambda prompt: prompt[prompt.index("What is") :],
        {
            "edit_overwrite": {"acc": 0, "other": 1},
            "edit_retention": {"acc": 0, "other": 1},
            "edit_forget": {"acc": 0, "leaked": 0, "recall": 0},
        },
    ),
}


class Answerer(LM):  # type: ignore[misc]
    """Answers from the prompt alone."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        super().__init__()
        self.answer = answer

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        return [self.answer(request.args[0]) for request in requests]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Any]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


@pytest.mark.parametrize("name", EXPECTED)
def test_models_that_fail_differently_get_different_exact_figures(tokenizer: Any, name: str) -> None:
    answer, expected = EXPECTED[name]
    for task, figures in expected.items():
        resolved = resolve(f"{task}@700", samples=8)
        run = evaluate_tasks(Answerer(answer), [load_task(resolved.config, {"tokenizer": tokenizer})])
        result = run["results"][resolved.lm_eval_name]
        assert {metric: result[f"{metric},none"] for metric in figures} == figures, task
        counts: dict[str, Any] = {
            "truncated": 0,
            "tokens": 0,
            "shared_tokens": 0,
            "seconds": 0.0,
            "peak_memory_mib": None,
        }
        cell = make_cell(resolved, task_protocol(resolved, 700, {}), run, context_prefix="tokenizer", **counts)
        assert {metric: cell.scores[metric].value for metric in figures} == figures
        assert all(score.unscored == 0 for score in cell.scores.values())
        if task == "edit_forget":
            assert {name: cell.scores[name].n for name in ("acc", "leaked", "recall", "swapped")} == {
                "acc": 4,
                "leaked": 4,
                "recall": 4,
                "swapped": 8,
            }


CHANCE = {"edit_overwrite": 1 / 8, "edit_retention": 1 / 12, "edit_forget": 1 / 4, "mqar": 1 / 16}


NOTHING_TO_ERASE = ("edit_retention", "mqar")
"""Where the asked key is written once: who never erases is right there, and who erases too much is not."""


@pytest.mark.parametrize("task", CHANCE)
def test_each_task_tells_the_ways_to_fail_apart(tokenizer: Any, task: str) -> None:
    resolved = resolve(f"{task}@1024", samples=96)
    docs = build(**resolved.config["dataset_kwargs"], tokenizer=tokenizer)["test"]
    models = {
        "perfect": perfect,
        "never erases": first_writes,
        "erases too much": last_write_only,
        "random": at_random,
        "mute": lambda _: "",
    }
    shares = {name: Counter(f"{doc['question']} {ask(answer, doc)}" for doc in docs) for name, answer in models.items()}
    same = {("perfect", "never erases")} if task in NOTHING_TO_ERASE else set()
    for one, other in itertools.combinations(models, 2):
        assert (shares[one] == shares[other]) == ((one, other) in same), (task, one, other)
    question = "forget_kept" if task == "edit_forget" else docs[0]["question"]
    asked = sum(doc["question"] == question for doc in docs)
    right = {name: found[f"{question} right"] / asked for name, found in shares.items()}
    assert right["perfect"] == 1.0
    assert right["mute"] == 0.0
    assert right["erases too much"] < 0.5
    assert right["never erases"] == (0.0 if task == "edit_overwrite" else 1.0)
    chance = CHANCE[task]
    assert abs(right["random"] - chance) < 4 * math.sqrt(chance * (1 - chance) / asked)
    if task == "edit_overwrite":
        assert shares["never erases"]["overwrite stale"] == 96
        assert shares["erases too much"]["overwrite stale"] == 0
    if task == "edit_forget":
        assert shares["never erases"]["forget_withdrawn leaked"] == 48
        assert shares["erases too much"]["forget_withdrawn leaked"] == 0


def test_plain_lm_eval_scores_pairs_as_the_harness_does(tokenizer: Any) -> None:
    manager = TaskManager(
        include_path=str(ROOT / "editing"),
        include_defaults=False,
        metadata={"tokenizer": tokenizer, "max_samples": 4},
    )
    for answer, acc in ((perfect, 1.0), (never_erasing, 0.0)):
        run = evaluate(lm=Answerer(answer), task_dict=manager.load(["gdn2_edit_forget_512"]), bootstrap_iters=0)
        results = run["results"]["gdn2_edit_forget_512"]
        assert results["acc,none"] == acc
        assert results["recall,none"] == 1.0


def test_going_through_the_text_again_is_never_right_by_accident(tokenizer: Any) -> None:
    """An echo gives the first statement first: that key's value decides, not the asked value further on."""
    for probe in ("overwrite", "retention"):
        made = edit_generator(tokenizer, probe)
        docs = [made.sample(index) for index in range(20)]
        for doc in docs:
            first_key, first_value = history(prompt_of(doc))[0]
            role = dict(zip(doc["values"], doc["roles"], strict=True))[first_value or ""]
            assert ask(echo, doc) == role
            assert role != "right" or first_key == doc["query"]
        assert sum(ask(echo, doc) == "right" for doc in docs) < len(docs) / 2


def test_outcomes_exclude_each_other_and_cover_everything(tokenizer: Any) -> None:
    answers = ["", "none", "77", " x"]
    for probe in SPECS:
        made = edit_generator(tokenizer, probe)
        for index in range(4):
            doc = made.sample(index)
            for answer in [*answers, *doc["values"]]:
                scores = scoring.score(doc, [answer])
                acc = scores.pop("acc")
                if "withheld" not in scores:
                    scores["right"] = acc
                assert sum(scores.values()) == 1
                assert set(scores) == set(scoring.OUTCOMES[doc["question"]])


def test_an_incomplete_pair_is_left_out() -> None:
    assert scoring.pairs([[0, 1.0], [0, 1.0], [1, 1.0], [1, 0.0], [2, 1.0]]) == [1.0, 0.0]
    assert scoring.both_right([[0, 1.0], [0, 1.0], [1, 1.0], [1, 0.0]]) == 0.5
    assert math.isnan(scoring.both_right([[0, 1.0]]))
