"""gdn2-lm-eval: mistakes in one line, and lm-eval quiet beside our progress."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import small_checkpoint

from harness.cli import lm_eval as command
from harness.cli.main import main
from harness.lm.evaluate import quiet_lm_eval
from harness.lm.model import GDN2LM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


def run(monkeypatch: pytest.MonkeyPatch, what: Callable[[], object]) -> None:
    """The command, whose lm-eval does only `what` (its own reading of arguments takes seconds)."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lm_eval.__main__.cli_evaluate", what)
    command.main()


@pytest.mark.parametrize(
    ("arguments", "others", "message"),
    [
        ({"pretrained": "/never/there"}, {}, "no such folder"),
        ({"pretrained": None}, {}, "needs a checkpoint: --model_args pretrained=FOLDER"),
        (
            {"context_prefix": "boss"},
            {},
            "context_prefix must be one of tokenizer, none, bos, eos, lm-eval, got 'boss'; did you mean 'bos'",
        ),
        ({"max_length": "long"}, {}, "max_length must be at least 1, a whole number"),
        ({"max_length": 2.5}, {}, "max_length must be at least 1, a whole number"),
        ({"batch_tokens": "many"}, {}, "batch_tokens must be a whole number"),
        ({"workers": -1}, {}, "workers must be at least 0"),
        ({}, {"batch_size": "some"}, "batch_size must be a whole number"),
        ({"size": 5}, {}, "no argument 'size'"),
        ({"pretrained": 7}, {}, "no such folder"),
        ({"tokenizer": "gdn2-tinny"}, {}, "tokenizer gdn2-tinny: no such folder"),
        ({"dtype": "float8"}, {}, "dtype must be one of"),
        ({"device": "cpuu"}, {}, "device"),
    ],
)
def test_a_mistake_in_the_models_arguments_is_one_line_and_exit_code_2(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, Any],
    others: dict[str, Any],
    message: str,
) -> None:
    every = {"pretrained": str(folder), **arguments}
    given = {name: value for name, value in every.items() if value is not None}
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, lambda: GDN2LM.create_from_arg_obj(given, {"batch_size": 1, "device": None, **others}))
    assert stopped.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert line.startswith("error: ")
    assert message in line


def test_what_lm_eval_refuses_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lm_eval.api.registry import get_model

    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, lambda: get_model("gdn3"))
    assert stopped.value.code == 2
    assert "error: Attempted to load model 'gdn3'" in capsys.readouterr().err
    monkeypatch.setenv("GDN2_DEBUG", "1")
    with pytest.raises(ValueError, match="gdn3"):
        run(monkeypatch, lambda: get_model("gdn3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: mine\n  bad: [\n", "{file}:2:6: not valid YAML: "),
        ("task: mine\ndoc_to_txt: q\n", "; {file}: doc_to_txt: unknown field; did you mean 'doc_to_text'"),
        ("task: mine\ninclude: absent.yaml\n", "{folder}/absent.yaml: cannot be read"),
        ("include: mine.yaml\ntask: mine\n", "{file}: include 'mine.yaml' leads back to itself"),
        ("task: mine\nmetric_list: [{metric: nosuch}]\n", "error: {file}: metric_list: lm-eval has no metric 'nosuch'"),
        ("task: mine\nmetric_list: [{metric: exact_match}]\n", None),
    ],
)
def test_a_file_that_lm_eval_cannot_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, message: str | None
) -> None:
    import lm_eval.tasks

    def load() -> None:
        lm_eval.tasks.TaskManager(include_path=str(tmp_path), include_defaults=False).load(["mine"])

    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"q": "a", "a": "b"}\n')
    file = tmp_path / "mine.yaml"
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {rows}}}}}\ntest_split: test\n"
    asking = "output_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\n"
    file.write_text(text if "include: " in text or "[\n" in text else text + data + asking)
    monkeypatch.setattr("sys.argv", ["gdn2-lm-eval", "run", "--include_path", str(tmp_path)])
    if message is None:
        run(monkeypatch, load)
        return
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, load)
    assert stopped.value.code == 2
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message.format(file=file, folder=tmp_path) in line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IndexError):
        run(monkeypatch, lambda: list[int]()[1])


def test_bootstrap_is_lm_evals_to_the_bit_and_silent(capfd: pytest.CaptureFixture[str]) -> None:
    from lm_eval.api import metrics

    import harness.lm.evaluate as ours

    loud = metrics._bootstrap_internal_no_mp
    values = [1.0, 2.0, 4.0, 8.0]
    if loud is ours._replicates:  # another test has made lm-eval quiet
        loud = None
    for iterations in (7, 1000, 2000):
        expected = loud(statistics.fmean, values, iterations) if loud else None
        capfd.readouterr()
        assert expected is None or ours._replicates(statistics.fmean, values, iterations) == expected
    quiet_lm_eval()
    metrics.bootstrap_stderr(statistics.fmean, values, 1000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["", "{", "[1]", "{}"])
@pytest.mark.parametrize("asked", ["run", "inspect", "check", "tasks check"])
def test_a_damaged_tokenizer_is_named_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, asked: str, content: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = small_checkpoint(tmp_path / "model")
    file = folder / "tokenizer.json"
    file.write_text(content)
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox")
    task = tmp_path / f"codes_{tmp_path.name[-9:]}.yaml"  # names of tasks are known for the whole process
    monkeypatch.chdir(tmp_path)
    main(["tasks", "new", task.stem])
    commands = {
        "run": ["run", str(folder), "--tasks", "niah_single_1@1024", "--samples", "1", "--output", str(tmp_path)],
        "inspect": ["inspect", str(folder)],
        "check": ["check", str(folder), "--text", str(text), "--expect-loss", "5"],
        "tasks check": ["tasks", "check", str(task), "--tokenizer", str(folder)],
    }
    capsys.readouterr()
    assert main(commands[asked]) == 2
    said = capsys.readouterr().err
    assert str(file) in said
    assert "Traceback" not in said
