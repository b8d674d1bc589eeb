"""lm-eval's own tasks over staged rows: the same configuration, and the same requests byte for byte."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval_rows import TASKS, TRAINING

from harness.lm.evaluate import evaluate_tasks, load_task
from tasks import data
from tasks.errors import TaskError
from tasks.preview import show_sample
from tasks.registry import list_tasks, resolve

UPSTREAM = Path(lm_eval.tasks.__file__).parent


LABEL = datasets.ClassLabel(names=["False", "True"])


RECALL = {"swde": "SWDE", "fda": "FDA", "squad_completion": "SQUADCompletion"}


RECALL_ROWS = [
    {"text": " \nA page. {{x}} Year:\n ", "key": "year", "value": " 1999\n", "context": "c", "question": "q"},
    {"text": "Ends in (a+b", "key": "k", "value": "(A+B", "context": "c", "question": "q"},
]


# What may differ: where the rows come from, the name, and our metadata.
ROUTE = {"task", "tag", "dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "metadata"} | {
    "training_split",
    "validation_split",
    "test_split",
    "num_fewshot",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "metric_list",  # compared as lm-eval understands it
}


@pytest.fixture(scope="module", autouse=True)
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The rows as staging writes them, and as parquet with the hub's column types."""
    folder = tmp_path_factory.mktemp("staged")
    files = {name: rows for name, (_, rows) in TASKS.items()}
    files |= {file.removesuffix(".jsonl"): RECALL_ROWS for file in ("based_swde.jsonl", "based_fda.jsonl")}
    files |= {f"{name}_train": rows for name, rows in TRAINING.items()}
    for name, rows in {**files, "based_squad": RECALL_ROWS}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        table = datasets.Dataset.from_list(rows)
        if name.removesuffix("_train") in ("piqa", "boolq"):
            table = table.cast_column("label", LABEL)
        table.to_parquet(folder / f"{name}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GDN2_DATA", str(folder))
        patch.setenv("HF_DATASETS_CACHE", str(folder / "cache"))
        yield folder


def theirs(name: str, folder: Path, shots: int = 0) -> ConfigurableTask:
    """lm-eval's task of this name, its data set read from parquet instead of the hub."""
    config = load_yaml(UPSTREAM / TASKS[name][0], resolve_func=True)
    split = config.get("test_split") or config["validation_split"]
    files = {split: str(folder / f"{name}.parquet")}
    if shots:
        files["train"] = str(folder / f"{name}_train.parquet")
    config |= {"dataset_path": "parquet", "dataset_name": None, "dataset_kwargs": {"data_files": files}}
    config |= {"training_split": "train" if shots else None, "num_fewshot": shots}
    config |= {} if split == "test" else {"test_split": None}
    config |= {"validation_split": None} if split == "test" else {}
    config.pop("tag", None)
    return ConfigurableTask(config=config)


def ours(name: str, shots: int = 0, **options: Any) -> ConfigurableTask:
    return ConfigurableTask(config=resolve(name, shots=shots, **options).config)


def requests(task: ConfigurableTask, key: str) -> dict[Any, list[tuple[Any, ...]]]:
    """Per row the requests; `key` names the column that says which row a document is."""
    task.set_fewshot_seed(seed=1234)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    found: dict[Any, list[tuple[Any, ...]]] = {}
    for instance in task.instances:
        place = instance.doc.get(key, instance.doc_id)
        found.setdefault(place, []).append((instance.request_type, *instance.args))
    return found


@pytest.mark.parametrize("name", TASKS)
def test_the_configuration_is_lm_evals_apart_from_the_route_of_its_data(name: str, staged: Path) -> None:
    upstream, own = theirs(name, staged), ours(name)
    parts: list[Callable[[Any], Any]] = [lambda task: task.config, lambda task: task.config.fewshot_config]
    for part in parts:
        for field in sorted(set(vars(part(upstream))) - {*ROUTE, "fewshot_config"}):
            one, two = getattr(part(upstream), field), getattr(part(own), field)
            assert callable(one) == callable(two), field  # what functions do, the next test compares
            assert callable(one) or one == two, field
    assert own.aggregation() == upstream.aggregation()
    assert own.higher_is_better() == upstream.higher_is_better()
    assert own.VERSION == upstream.VERSION
    assert own.OUTPUT_TYPE == upstream.OUTPUT_TYPE


@pytest.mark.parametrize("name", TASKS)
def test_requests_are_lm_evals_byte_for_byte(name: str, staged: Path) -> None:
    upstream, own = theirs(name, staged), ours(name)
    assert requests(own, "row") == requests(upstream, "no such column")
    for doc in own.eval_docs:
        twin = upstream.eval_docs[doc["row"]]
        assert own.doc_to_target(doc) == upstream.doc_to_target(twin)
        count = len(requests(own, "row")[doc["row"]])
        results = [-1.5] if own.OUTPUT_TYPE == "loglikelihood_rolling" else [(-1.0 - i, i == 0) for i in range(count)]
        results = results[:1] if own.OUTPUT_TYPE == "loglikelihood" else results
        assert own.process_results(doc, results) == upstream.process_results(twin, results)


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("name", TRAINING)
def test_solved_examples_are_lm_evals_byte_for_byte(name: str, shots: int, staged: Path) -> None:
    """Whatever documents are asked, and in whatever order: each has the examples of lm-eval's whole evaluation."""
    expected = requests(theirs(name, staged, shots), "no such column")
    assert requests(ours(name, shots), "row") == expected
    for seed in range(4):
        alone = requests(ours(name, shots, samples=1, seed=seed), "row")
        assert len(alone) == 1
        assert alone.items() <= expected.items()
    first = expected[0][0][1]
    assert first.count("\n\n") >= shots
    assert first != requests(theirs(name, staged), "no such column")[0][0][1]


def test_plain_lm_eval_draws_the_same_solved_examples(staged: Path) -> None:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(Path(data.__file__).parent), include_defaults=False)
    (task,) = manager.load(["gdn2_piqa"])["tasks"].values()
    task.set_config(key="num_fewshot", value=3)
    assert requests(task, "row") == requests(theirs("piqa", staged, 3), "no such column")


def test_solved_examples_need_training_rows_and_a_task_that_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaskError, match="'wikitext' takes no solved examples in front of its question"):
        resolve("wikitext", shots=1)
    with pytest.raises(TaskError, match="shots must be at least 0, got -1"):
        resolve("piqa", shots=-1)
    with pytest.raises(TaskError, match=r"piqa_train\.jsonl has 14 rows: 14 solved examples cannot be drawn"):
        requests(ours("piqa", 14), "row")
    assert (resolve("piqa", shots=2).data, resolve("piqa").data) == (
        ("piqa.jsonl", "piqa_train.jsonl"),
        ("piqa.jsonl",),
    )
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    (tmp_path / "piqa.jsonl").write_text(json.dumps(TASKS["piqa"][1][0]) + "\n")
    with pytest.raises(data.DataNotStaged, match=r"piqa_train\.jsonl is not staged; run .* stage piqa_train"):
        requests(ours("piqa", 1), "row")


@pytest.mark.parametrize("name", RECALL)
def test_the_recall_variants_ask_and_score_as_lm_evals_classes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = {"validation": datasets.Dataset.from_list(RECALL_ROWS)}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_args, **_kwargs: hub)
    upstream = getattr(importlib.import_module(f"lm_eval.tasks.{name}.task"), RECALL[name])()
    own = ours(name)
    assert own.VERSION == upstream.VERSION
    (first, second), asked = requests(upstream, "no such column").values(), requests(own, "row")
    for their, our in ((first, asked[0]), (second, asked[1])):
        ((kind, context, their_kwargs),) = their
        assert our == [(kind, context, {**their_kwargs, "do_sample": False})]  # greedy either way
    for doc in RECALL_ROWS:
        assert own.doc_to_target(doc) == upstream.doc_to_target(doc)
        for answer in ("in 1999", "19", "it is (a+b)", ""):
            assert own.process_results(doc, [answer]) == upstream.process_results(doc, [answer])


class Uniform(LM):  # type: ignore[misc]
    """Two nats a character: the shortest choice wins."""

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002
        return [(-2.0 * len(request.args[1]), True) for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002
        return [-2.0 * len(request.args[0].encode()) for request in requests]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        raise NotImplementedError


@pytest.mark.parametrize("name", TASKS)
def test_every_task_evaluates_to_its_metrics(name: str) -> None:
    task = resolve(name)
    result = evaluate_tasks(Uniform(), [load_task(task.config, {})])
    found = result["results"][task.lm_eval_name]
    assert all(f"{metric},none" in found for metric in task.info.metrics)
    if name == "lambada_openai":
        assert found["perplexity,none"] == pytest.approx(math.exp(2.0 * 4))  # " dog" and " two"
        assert found["acc,none"] == 1.0
    if name == "wikitext":  # the text that is scored is shorter than the page whose bytes count
        assert 1 < found["bits_per_byte,none"] < 2 / math.log(2)


def test_all_documents_are_taken_unless_samples_are_asked_for() -> None:
    infos = {info.name: info for info in list_tasks()}
    assert all(infos[name].samples is None for name in TASKS)
    task = resolve("piqa")
    build, kwargs = task.config["custom_dataset"], task.config["dataset_kwargs"]
    assert sorted(build(**kwargs)["test"]["row"]) == [0, 1]
    assert len(build(**resolve("piqa", samples=1).config["dataset_kwargs"])["test"]) == 1
    assert len(build(**kwargs, max_samples=1)["test"]) == 1


def test_every_file_declares_the_columns_that_its_task_reads() -> None:
    declared = data.sources()["files"]
    for name, (_, rows) in TASKS.items():
        assert set(declared[f"{name}.jsonl"]["columns"]) <= set(rows[0])
    for name in TRAINING:
        columns, hub = (declared[f"{name}.jsonl"][part] for part in ("columns", "hub"))
        assert declared[f"{name}_train.jsonl"]["columns"] == columns
        assert declared[f"{name}_train.jsonl"]["hub"] == {**hub, "split": "train"}


def test_wrong_rows_and_fields_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = resolve("piqa").config["custom_dataset"]
    with pytest.raises(TaskError, match="'file' is missing"):
        build({"samples": None})
    with pytest.raises(TaskError, match="unknown field 'split'"):
        build({"file": "piqa.jsonl", "samples": None, "split": "test"})
    monkeypatch.setenv("GDN2_DATA", str(tmp_path))
    with pytest.raises(data.DataNotStaged, match=r"piqa\.jsonl is not staged; run `python run_eval\.py stage piqa`"):
        build({"file": "piqa.jsonl", "samples": None})
    (tmp_path / "piqa.jsonl").write_text('{"goal": "g", "solution1": "a", "sol2": "b", "label": 0}\n')
    with pytest.raises(
        TaskError, match=r"piqa\.jsonl, line 1: .*sol1 missing; expected goal, sol1, .* found goal, sol"
    ):
        build({"file": "piqa.jsonl", "samples": None})


@pytest.mark.parametrize("name", ["piqa", "lambada_openai", "winogrande", "wikitext", "fda"])
def test_a_sample_can_be_shown(name: str) -> None:
    shown = show_sample(name, str(Path(__file__).parent.parent / "gdn2/zoo/gdn2-tiny"))
    assert shown["prompt"]
    assert shown["prompt_tokens"] > 0
    if name in TRAINING:
        more = show_sample(name, str(Path(__file__).parent.parent / "gdn2/zoo/gdn2-tiny"), shots=3)
        assert more["prompt"].endswith(shown["prompt"]) or name == "winogrande"
        assert more["prompt_tokens"] > 2 * shown["prompt_tokens"]
