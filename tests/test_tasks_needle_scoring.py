"""Scores of retrieval tasks from a YAML file, in the harness and in plain lm-eval."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from needle_tasks import OWN_TEXT, prompt_of, write_task

from harness.lm.evaluate import evaluate_tasks, load_task
from tasks.check import check_file
from tasks.generators import find_generator
from tasks.needle import scoring
from tasks.registry import resolve

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")


@pytest.mark.parametrize(
    ("rule", "answer", "expected"),
    [
        ("all", "x\n 11 and\n 22", 1.0),
        ("all", "22", 0.5),
        ("any", "22", 1.0),
        ("any", "33", 0.0),
        ("first_line", "\n 11, 22\n", 1.0),
        ("first_line", "none\n11 22", 0.0),
        ("exact", " 11.\nmore", 1.0),
        ("exact", "it is 11", 0.0),
        ("exact", "", 0.0),
        ("exact_match", "11 ", 1.0),
        ("string_match_all", "22\x00 11", 1.0),
        ("string_match_part", "no\n\n22", 1.0),
        ("contains", "is 22", 1.0),
        ("contains", "2 2", 0.0),
        ("f1", "\nthe 11, and 22.\n33", 2 * 2 / (3 + 2)),
        ("f1", "33", 0.0),
        ("f1", "", 0.0),
    ],
)
def test_scoring_is_as_named(rule: str, answer: str, expected: float) -> None:
    assert scoring.score({"scoring": rule, "outputs": ["11", "22"]}, [answer]) == {"acc": expected}
    assert scoring.score({"scoring": [rule], "outputs": ["11", "22"]}, [answer]) == {rule: expected}


def test_several_rules_are_metrics_of_lm_eval(tmp_path: Path, tokenizer_folder: str) -> None:
    rules = ["f1", "exact_match", "string_match_all", "contains"]
    entries = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in rules]
    file = write_task(tmp_path, scoring=rules)
    (error,) = check_file(file, tokenizer_folder).errors
    assert "metric_list: is not what the spec's scoring gives; write metric_list: [{metric: f1, aggreg" in error
    file.write_text(file.read_text() + f"metric_list: {json.dumps(entries)}\n")
    assert check_file(file, tokenizer_folder).errors == ()
    task = resolve(f"{file}@700")
    assert task.metrics == tuple(rules)

    class Answers(LM):  # type: ignore[misc]
        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any: ...
        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any: ...
        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
            return [" ".join(["no", *request.doc["outputs"]][place % 2 :]) for place, request in enumerate(requests)]

    result = evaluate_tasks(Answers(), [load_task(task.config, {"tokenizer": tokenizer_folder, "max_samples": 4})])
    found = {key: value for key, value in result["results"][task.lm_eval_name].items() if key.endswith(",none")}
    assert found == {
        "f1,none": (2 / 3 + 1) / 2,
        "exact_match,none": 0.5,
        "string_match_all,none": 1.0,
        "contains,none": 1.0,
        **{key: value for key, value in found.items() if "stderr" in key},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metric_list: acc", r"metric_list: must be a list such as \[\{metric: acc, aggregation: mean, .*got 'acc'"),
        ("metric_list: []", r"metric_list: must be a list such as"),
        ("metric_list: [{metric: f1}]", r":4:1: metric_list: is not what the spec's scoring gives; write"),
        ("num_fewshot: 2", r":4:1: num_fewshot: documents fill their length, so there is no room"),
    ],
)
def test_metrics_and_examples_that_a_task_cannot_have_are_refused(
    tmp_path: Path, tokenizer_folder: str, text: str, message: str
) -> None:
    file = write_task(tmp_path)
    file.write_text(file.read_text() + text + "\n")
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(message.replace(":4:", r":\d+:"), error), error


class Reader(LM):  # type: ignore[misc]
    """Finds the code of the asked key in the prompt."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        answers = []
        for request in requests:
            prompt = request.args[0]
            key = prompt.rsplit(" ", 2)[1]
            answers.append(" " + dict(re.findall(r"The code of (\S+) is (\w+)\.", prompt))[key])
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Any]:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def test_plain_lm_eval_asks_the_same_questions(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "notes.txt").write_text(OWN_TEXT)
    file = write_task(tmp_path, haystack={"file": "notes.txt"}, lengths=[600, 700], samples=3, keys=2)
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False, metadata={"tokenizer": tokenizer})
    run = evaluate(lm=Reader(), task_dict=manager.load(["mine"]), bootstrap_iters=0)
    docs = [sample["doc"] for sample in run["samples"]["mine"]]
    assert run["results"]["mine"]["acc,none"] == 1.0
    assert [doc["length"] for doc in docs] == [600] * 3 + [700] * 3
    for sample in run["samples"]["mine"]:
        assert sample["arguments"][0][0] == prompt_of(sample["doc"])
    for length in (600, 700):
        made = find_generator(resolve(f"{file}@{length}").config, tokenizer)
        assert made is not None
        hashes = [made.sample(index)["sample_hash"] for index in range(3)]
        assert hashes == [doc["sample_hash"] for doc in docs if doc["length"] == length]
