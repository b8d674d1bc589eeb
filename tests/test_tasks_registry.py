"""Names of tasks and suites: what is listed resolves, and what is wrong is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks import data
from tasks.registry import data_files, list_suites, list_tasks, load_suite, resolve
from tasks.ruler.spec import VARIANTS, RulerSpec
from tasks.ruler.templates import OTHER_TASKS
from tasks.suite import TaskError
from tasks.task_files import ROOT, load_yaml

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


def test_every_task_is_listed_with_its_data() -> None:
    infos = {info.name: info for info in list_tasks()}
    assert {*VARIANTS, *OTHER_TASKS, "squad_retrieval", "wiki_perplexity", "jrt_squad", "jrt_squad_twice"} <= set(infos)
    assert all(infos[name].lengths == LENGTHS for name in VARIANTS)
    assert infos["niah_single_1"].data == ()
    assert data_files(["niah_single_2@512", "gdn2_niah_single_3_512", "squad_retrieval"]) == [
        "essays.json",
        "squad.json",
    ]
    assert all(file in data.sources()["files"] for info in infos.values() for file in info.data)


def test_every_yaml_of_a_length_says_what_resolve_says() -> None:
    files = [file for file in ROOT.glob("*/*/*.yaml") if file.stem.isdigit()]
    assert len(files) > len(VARIANTS) * len(LENGTHS)
    for file in files:
        config = load_yaml(file)
        resolved = resolve(f"{file.parent.name}@{file.stem}")
        assert config["task"] == resolved.lm_eval_name == f"gdn2_{file.parent.name}_{file.stem}"
        assert config["dataset_kwargs"] == resolved.config["dataset_kwargs"]
        spec = config["dataset_kwargs"]["spec"]
        assert spec["length"] == int(file.stem)
        if file.parent.name in (*VARIANTS, *OTHER_TASKS):
            assert RulerSpec.parse(spec).length == int(file.stem)
        assert set(config) - {"tag"} == set(resolved.config)


@pytest.mark.parametrize("name", ["niah_single_1@1536", "gdn2_niah_single_1_1536", "niah_single_1_1536"])
def test_spellings_agree_also_at_a_length_without_yaml(name: str) -> None:
    task = resolve(name, samples=7, seed=3)
    assert task.lm_eval_name == "gdn2_niah_single_1_1536"
    assert task.config["dataset_kwargs"]["spec"] == {
        "task": "niah_single_1",
        "length": 1536,
        "samples": 7,
        "seed": 3,
    }
    assert callable(task.config["custom_dataset"])
    assert callable(task.config["process_results"])
    assert resolve("niah_single_1", 1536).length == 1536
    assert resolve("niah_single_1@1536").samples == 500


@pytest.mark.parametrize(
    ("name", "length", "message"),
    [
        ("niah_sngle_1@1024", None, r"unknown task 'niah_sngle_1@1024'; did you mean 'niah_single_1@1024' or "),
        ("squadretrieval", None, "did you mean 'squad_retrieval'\\? `python run_eval.py tasks list`"),
        ("niah_single_1", None, r"needs a length: write niah_single_1@1024 \(shipped: 512, "),
        ("niah_single_1@512", 1024, "says length 512, but 1024"),
        ("squad_retrieval@512", None, "has no length: write squad_retrieval"),
        ("niah_single_1@0", None, "length must be at least 1, got 0"),
    ],
)
def test_a_wrong_name_says_the_way_out(name: str, length: int | None, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        resolve(name, length)


def test_the_papers_table_has_its_fourteen_cells() -> None:
    suite = load_suite("ruler_table3")
    assert len(suite.columns) == len(suite.resolve()) == 14
    assert {(column.samples, column.metric) for column in suite.columns} == {(500, "acc")}
    assert {column.group for column in suite.columns} == {"S-NIAH-1", "S-NIAH-2", "S-NIAH-3", "MK-NIAH-1"}


def test_shipped_suites_resolve_and_name_themselves() -> None:
    suites = list_suites()
    assert [suite.name for suite in suites] == [suite.file.stem for suite in suites]
    for suite in suites:
        assert all(task.seed == suite.protocol.seed for task in suite.resolve())
    quick = load_suite("quick").resolve(samples=2)
    assert len(quick) == 8  # two columns show the same perplexity task
    assert {task.samples for task in quick} == {2}


COLUMN = "{task: niah_single_1, length: 512, metric: acc, samples: 5, label: '512', group: S}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"suite: s\ncolumn: [{COLUMN}]", "unknown field 'column'; did you mean 'columns'"),
        ("suite: s", "'columns' is missing or empty"),
        (f"columns: [{COLUMN}]", "'suite' is missing"),
        (f"suite: s\nprotocol: {{sed: 1}}\ncolumns: [{COLUMN}]", "protocol: unknown field 'sed'"),
        (f"suite: s\nprotocol: {{context_prefix: BOS}}\ncolumns: [{COLUMN}]", "context_prefix must be one of"),
        (f"suite: s\nprotocol: {{seed: x}}\ncolumns: [{COLUMN}]", "'seed' must be a whole number, got 'x'"),
        ("suite: s\ncolumns: [niah_single_1]", r"columns\[0\]: must be a mapping"),
        (f"suite: s\ncolumns: [{COLUMN.replace('label', 'lable')}]", r"columns\[0\]: unknown field 'lable'"),
        (f"suite: s\ncolumns: [{COLUMN.replace('metric: acc, ', '')}]", r"columns\[0\]: field 'metric' is missing"),
        (
            f"suite: s\ncolumns: [{COLUMN.replace('acc', 'f1')}]",
            r"columns\[0\]: unknown metric 'f1'; .*'acc'",
        ),
        (f"suite: s\ncolumns: [{COLUMN.replace('length: 512, ', '')}]", r"columns\[0\]: task .* needs a length"),
        (f"suite: s\ncolumns: [{COLUMN.replace('single_1', 'singel')}]", r"columns\[0\]: unknown task"),
        (f"suite: s\ncolumns: [{COLUMN.replace(chr(39), '')}]", r"'label' must be text \(quote it"),
        (f"suite: s\ncolumns: [{COLUMN}, {COLUMN}]", r"columns\[1\]: niah_single_1 with acc is listed twice"),
        ("suite: [", r"mine\.yaml:1:9: not valid YAML: "),
        ("suite: [s]\ncolumns: [1]", r"mine\.yaml:1:1: field 'suite' must be text, got \['s'\]"),
        ("suite: s\nsuite: t\ncolumns: [1]", r"mine\.yaml:2:1: not valid YAML: the field 'suite' is given twice"),
        ("- suite", "must be a mapping of fields"),
    ],
)
def test_a_wrong_suite_names_file_and_field(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(TaskError, match=message) as error:
        load_suite(file)
    assert str(file) in str(error.value)


def test_an_unknown_suite_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"unknown suite 'quik', .*; did you mean 'quick'\?$"):
        load_suite("quik")
    with pytest.raises(TaskError, match=r"unknown suite 'zzz', .*; there are .*'quick', .*'ruler_table3'"):
        load_suite("zzz")
    with pytest.raises(TaskError, match="cannot be read"):
        load_suite(tmp_path / "absent.yaml")


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tasks import registry; registry.list_tasks(); registry.list_suites(); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'lm_eval', 'punkt') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert done.stdout.strip() == "[]"


def test_tasks_never_import_the_harness() -> None:
    for file in ROOT.rglob("*.py"):
        assert "harness" not in [
            word for line in file.read_text().splitlines() if "import" in line for word in line.split()
        ]
