"""Tasks from files of the user's own: how they are written, found, run and recorded."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
import yaml
from fakes import small_checkpoint
from lm_eval.config.task import TaskConfig
from needle_tasks import OWN_TEXT, write_task
from rich.console import Console
from runs import run

from harness.cli import main as cli
from harness.records.leaderboard import build_table
from harness.runs.options import RunOptions
from tasks import own, own_fields
from tasks.check import check_file
from tasks.errors import TaskError
from tasks.preview import show_sample
from tasks.registry import load_suite, resolve, spellings
from tasks.starter import BASE, write_starter
from tasks.task_files import load_yaml

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")


def test_a_file_is_run_once_a_length_and_known_by_name_afterwards(tmp_path: Path) -> None:
    file = write_task(tmp_path, lengths=[600, 700], samples=4)
    assert spellings(str(file)) == [f"{file}@600", f"{file}@700"]
    assert spellings(f"{file}@650") == [f"{file}@650"]
    assert spellings("niah_single_1@600") == ["niah_single_1@600"]
    task = resolve(f"{file}@650", seed=3)
    assert (task.info.name, task.length, task.samples, task.seed) == ("mine", 650, 4, 3)
    assert "lengths" not in task.config["dataset_kwargs"]["spec"]
    assert resolve("mine@600").lm_eval_name == "gdn2_mine_600"
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(TaskError, match=r"task 'mine' is the name of .*mine.yaml as well"):
        resolve(f"{write_task(other)}@600")
    for odd in ("x", "²", "9" * 5000):
        with pytest.raises(TaskError, match=f"must be a whole number, got '{odd[:50]}'"):
            resolve(f"{file}@{odd}")
        with pytest.raises(TaskError, match=r"unknown task"):
            resolve(f"niah_single_1@{odd}")


def test_a_suite_names_a_task_file_beside_it(tmp_path: Path) -> None:
    write_task(tmp_path)
    column = "{task: mine.yaml, length: 700, metric: acc, label: '700', group: G}"
    (tmp_path / "suite.yaml").write_text(f"suite: s\ncolumns: [{column}]\n")
    suite = load_suite(tmp_path / "suite.yaml")
    assert suite.columns[0].task == "mine"
    assert suite.resolve()[0].samples == 100


def test_an_own_file_may_be_of_another_family(tmp_path: Path, tokenizer_folder: str) -> None:
    base = BASE.parent.parent / "editing" / "edit_retention" / "_base.yaml"
    spec = "{task: mine, probe: retention, lengths: [900, 1000], keys: 3, edited: 1, distance: 200, samples: 4}"
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {base}\ntask: mine\ndataset_kwargs: {{spec: {spec}}}\nmetadata: {{version: 1.0}}\n")
    report = check_file(file, tokenizer_folder)
    assert report.errors == ()
    assert [(check.length, check.occurrences) for check in report.lengths] == [(900, (1, 1)), (1000, (1, 1))]
    build = resolve(f"{file}@900").config["custom_dataset"]
    docs = build({**load_yaml(file)["dataset_kwargs"]["spec"], "samples": 2}, tokenizer=tokenizer_folder)["test"]
    assert docs["length"][:] == [900, 900, 1000, 1000]
    file.write_text(file.read_text().replace("edited: 1", "edited: 3"))
    (error,) = check_file(file, tokenizer_folder).errors
    assert re.search(r"mine.yaml:3:\d+: dataset_kwargs.spec.edited: field 'edited' must leave one", error)


def test_a_ruler_task_of_ones_own_is_checked_too(tmp_path: Path, tokenizer_folder: str) -> None:
    base = BASE.parent.parent / "ruler" / "_niah.yaml"
    spec = "{task: mine, length: 900, haystack: noise, key: uuids, value: words, needles: 3, samples: 4}"
    file = tmp_path / "mine.yaml"
    file.write_text(f"include: {base}\ntask: mine\ndataset_kwargs: {{spec: {spec}}}\nmetadata: {{version: 1.0}}\n")
    report = check_file(file, tokenizer_folder)
    assert report.errors == ()
    assert report.lengths[0].prompt_tokens == (900 - 128, 900 - 128)
    file.write_text(file.read_text().replace("value: words", "value: wrods"))
    assert re.search(
        r"mine.yaml:3:\d+: dataset_kwargs.spec.value: field 'value'", check_file(file, tokenizer_folder).errors[0]
    )


def test_the_written_file_is_right_and_is_not_overwritten(tmp_path: Path, tokenizer_folder: str) -> None:
    file = write_starter("door_codes", tmp_path)
    report = check_file(file, tokenizer_folder, samples=2)
    assert report.errors == ()
    assert [check.length for check in report.lengths] == [1024, 2048]
    assert report.collisions == 0
    assert (
        show_sample(f"{file}@1024", tokenizer_folder)["query"]
        in show_sample(f"{file}@1024", tokenizer_folder)["prompt"]
    )
    with pytest.raises(TaskError, match=r"door_codes.yaml exists; choose another name"):
        write_starter("door_codes", tmp_path)
    with pytest.raises(TaskError, match="is a task of this project"):
        write_starter("mqar", tmp_path)
    with pytest.raises(TaskError, match="a name has letters"):
        write_starter("../x", tmp_path)
    with pytest.raises(TaskError, match="choose another --folder"):
        write_starter("x", tmp_path / "absent")


def test_every_field_of_the_written_file_is_checked(tmp_path: Path) -> None:
    """The comments of the file name every field of a spec, so that nobody has to read the code for them."""
    text = write_starter("door_codes", tmp_path).read_text()
    spec = yaml.safe_load(text.replace("!function", ""))["dataset_kwargs"]["spec"]
    from tasks.needle.spec import FIELDS

    assert set(FIELDS) - set(spec) == {"length", "distractor"}
    assert "distractor`" in text


def test_the_fields_of_a_task_are_lm_evals() -> None:
    assert set(own_fields.LM_EVAL_FIELDS) == set(TaskConfig.__annotations__)


def test_the_command_line_writes_checks_and_shows_a_task(
    tmp_path: Path, tokenizer_folder: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["tasks", "new", "door_codes"]) == 0
    assert "tasks check door_codes.yaml" in capsys.readouterr().out
    assert cli.main(["tasks", "new", "door_codes"]) == 2
    assert "error: door_codes.yaml exists" in capsys.readouterr().err
    assert cli.main(["tasks", "check", "door_codes.yaml", "--tokenizer", tokenizer_folder]) == 0
    out = capsys.readouterr().out
    for text in ("Remember every number.", "Which number?", "1,024", "once", "3 of 100", "OK door_codes.yaml"):
        assert text in out
    assert cli.main(["tasks", "show", "door_codes.yaml", "--tokenizer", tokenizer_folder, "--index", "1"]) == 0
    assert "sample 1" in capsys.readouterr().out
    file = tmp_path / "door_codes.yaml"
    file.write_text(file.read_text().replace("haystack: essay", "haystak: essay").replace("keys: 4", "keys: four"))
    assert cli.main(["tasks", "check", "door_codes.yaml"]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "door_codes.yaml:17:5: dataset_kwargs.spec.haystak: unknown field; did you mean 'haystack'?"
    assert err[1].startswith("door_codes.yaml:24:5: dataset_kwargs.spec.keys: ")
    assert err[2] == "error: door_codes.yaml: 2 mistakes, listed above"
    assert cli.main(["run", "gdn2-tiny", "--tasks", "door_codes.yaml"]) == 2
    assert "door_codes.yaml:17:5" in capsys.readouterr().err


def test_a_run_of_a_file_leaves_a_record_that_knows_its_definition(tmp_path: Path) -> None:
    checkpoint = small_checkpoint(tmp_path / "small")
    text = {"file": "notes.txt"}
    (tmp_path / "notes.txt").write_text(OWN_TEXT)
    file = write_task(tmp_path, haystack=text, lengths=[200, 260], samples=2, generated_tokens=8)
    options = RunOptions(checkpoint=str(checkpoint), tasks=(str(file),), output=tmp_path / "out", batch_size=2)
    record, _ = run(options, Console(file=io.StringIO()))
    assert [(cell.protocol.name, cell.protocol.length, cell.scores["acc"].n) for cell in record.cells] == [
        ("mine", 200, 2),
        ("mine", 260, 2),
    ]
    assert [list(cell.protocol.data or ()) for cell in record.cells] == [["notes.txt"]] * 2
    assert len({cell.protocol.spec for cell in record.cells}) == 1
    assert record.protocol.tasks[0] == record.cells[0].protocol

    column = "{task: mine.yaml, length: 200, metric: acc, label: '200', group: G, samples: 2}"
    (tmp_path / "suite.yaml").write_text(f"suite: s\ncolumns: [{column}]\n")
    table = build_table(load_suite(tmp_path / "suite.yaml"), [(tmp_path, record)])
    assert [entry is not None for row in table.rows for entry in row.entries] == [True]
    assert table.notes == []
    own.known().clear()
    write_task(tmp_path, haystack=text, lengths=[200], generated_tokens=8, question="Say the code of {key}.")
    table = build_table(load_suite(tmp_path / "suite.yaml"), [(tmp_path, record)])
    assert table.notes == [f"another definition of mine ({record.cells[0].protocol.spec}) than in its file now"]
