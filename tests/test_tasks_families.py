"""What differs between families is declared once, and the hashes of users' tasks do not depend on where code lies."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from harness.records.cells import spec_hash
from tasks import families
from tasks.generators import own_data_hashes
from tasks.registry import list_tasks, resolve
from tasks.score_names import SCORES, known_as, score_name
from tasks.task_files import ROOT

CONTAINS = (
    "process_results: !function tasks.scoring.score_contains\n"
    "metric_list: [{metric: contains, aggregation: mean, higher_is_better: true}]\n"
)
OWN = {
    "needle": ("needle/_base", "lengths: [700], haystack: noise, key: words, value: numbers, keys: 2,"
               " needle: '{key} is {value}.', question: 'What is {key}?'"),
    "editing": ("editing/edit_overwrite/_base", "length: 1024, probe: overwrite, keys: 4, samples: 5, seed: 42"),
    "pair": ("editing/edit_forget/_base", "length: 1024, probe: forget, keys: 4, edited: 2, samples: 6, seed: 42"),
    "ruler": ("ruler/niah_single_1/_base", "haystack: noise, length: 1024, samples: 5, seed: 42"),
}  # fmt: skip
HASHES = {
    ("needle", ""): "be6b5a1781318f94",
    ("needle", CONTAINS): "c1ef75dc07803125",
    ("editing", ""): "4a827dac6a7d6d48",
    ("editing", CONTAINS): "4f9bd0977d1ec0d9",
    ("pair", ""): "edbab487b87ba28b",
    ("pair", CONTAINS): "fe7d40d7adff9c3d",
    ("ruler", ""): "6265586e747f070b",
    ("ruler", CONTAINS): "c119aca85a9806cb",
}
"""As they were when hashes held the paths of scoring functions."""
SCORE_NAMES = {
    "tasks.scoring.score_needles",
    "tasks.scoring.score_any",
    "tasks.scoring.score_contains",
    "tasks.scoring.score_words",
    "tasks.scoring.score_stripped_value",
    "tasks.needle.scoring.score",
    "tasks.editing.scoring.score",
    "tasks.editing.scoring.score_pair",
    "tasks.perplexity.buckets.score",
    "tasks.commonsense.upstream.wikitext_scores",
}


@pytest.mark.parametrize(("kind", "scored"), HASHES, ids=lambda value: "contains" if value == CONTAINS else value)
def test_the_hash_of_a_task_of_the_users_own_is_what_it_always_was(tmp_path: Path, kind: str, scored: str) -> None:
    base, spec = OWN[kind]
    name = f"pins{len(scored)}_{kind}"  # samples and hashes depend on the task's name
    file = tmp_path / f"{kind}.yaml"
    text = f"include: {ROOT / base}.yaml\ntask: {name}\ndataset_kwargs: {{spec: {{task: {name}, {spec}}}}}\n"
    file.write_text(text + scored)
    assert spec_hash(resolve(f"{file}@1024")) == HASHES[kind, scored]


def test_every_scoring_function_of_a_shipped_task_has_a_name_that_is_never_changed() -> None:
    for info in list_tasks():
        function = resolve(info.name, info.lengths[0] if info.lengths else None).config.get("process_results")
        if function is not None:
            assert score_name(function) in SCORES, info.name
    assert set(SCORES) == SCORE_NAMES


def test_a_moved_scoring_function_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    function = SCORES["tasks.scoring.score_any"]
    monkeypatch.setattr(function, "__module__", "tasks.elsewhere")
    assert score_name(function) == "tasks.scoring.score_any"
    assert score_name(re.sub) == "re.sub"
    with pytest.raises(ValueError, match=r"two scoring functions are called 'tasks\.scoring\.score_any'"):
        known_as("tasks.scoring.score_any")(re.sub)


def test_every_shipped_task_belongs_to_a_declared_family_whose_metrics_have_a_unit() -> None:
    for info in list_tasks():
        family = families.named(info.family)
        assert family in families.FAMILIES, info.name
        for metric in info.metrics:
            assert any(known.matches(metric) for known in family.metrics), (info.name, metric)


def test_a_metric_of_two_families_has_one_unit() -> None:
    names = {metric for info in list_tasks() for metric in info.metrics}
    for name in names:
        units = {known.unit for family in families.FAMILIES for known in family.metrics if known.matches(name)}
        assert units == {families.unit_of(name)}, name
    assert families.unit_of("of_my_own") == "number"


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_what_a_family_declares_can_be_found(family: families.Family) -> None:
    assert (ROOT / family.name).is_dir()
    assert (family.builder is not None) == family.makes_documents
    if family.builder is not None:
        assert families.built_by(family.builder) is family
        assert callable(family.function("make_generator"))
        assert callable(family.function(family.builder.rpartition(".")[2]))
        assert family.problems_of is not None
    if family.has_own_texts:
        assert callable(family.function("data_hashes"))
    if family.store is not None:
        module, _, name = family.store.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    ("name", "generator"),
    [
        ("niah_single_1@700", "exact"),
        ("edit_overwrite@1024", "exact"),
        ("wiki_positions@8192", None),
        ("jrt_fda@2048", None),
        ("piqa", None),
    ],
)
def test_records_name_the_generator_of_made_documents_only(name: str, generator: str | None) -> None:
    task = resolve(name)
    assert task.recorded_generator == generator
    assert task.generator == (generator if task.info.family == "ruler" else None)
    assert own_data_hashes(task.config) == {}


def test_a_file_may_give_its_family_any_name(tmp_path: Path) -> None:
    """What documents are made by decides how a task is built; the name decides what records say, as it always has."""
    base, spec = OWN["needle"]
    for number, (label, recorded) in enumerate(
        {"perplexity": None, "ruler": "exact", "retrieval": None, "mine": "exact"}.items()
    ):
        file = tmp_path / f"label{number}.yaml"
        file.write_text(
            f"include: {ROOT / base}.yaml\ntask: label{number}\nmetadata: {{family: {label}}}\n"
            f"dataset_kwargs: {{spec: {{task: label{number}, {spec}}}}}\n"
        )
        task = resolve(f"{file}@1024", generator="nvidia")
        assert task.metrics == ("acc",)
        assert "generator" not in task.config["dataset_kwargs"]["spec"]
        assert (task.generator, task.recorded_generator) == (None, recorded)
