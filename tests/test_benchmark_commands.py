"""What the benchmarks refuse, before anything is measured, and where their processes look for what the user named."""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import pytest

from basis.errors import UserError

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "benchmarks").glob("*.py"))
STARTED = {"model_training"}
"""Started by another script only."""


def run(does: Callable[[], None]) -> Any:
    with pytest.raises(SystemExit) as ended:
        command_line.answer(does)
    return ended.value.code


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (command_line.positive, "0", "from 1 on, got '0'"),
        (command_line.positives, "1024,4k", "got '4k'"),
        (command_line.some_of(["vt", "cwe"]), "vt,cew", "did you mean 'cwe'"),
        (command_line.there, "FOLDER/none", "no such file or folder"),
        (command_line.wheel, "FOLDER", "no unpacked wheel"),
        (command_line.new_file, "FOLDER", "is a folder"),
        (command_line.new_file, "FOLDER/file/x.json", "cannot be written"),
        (command_line.device, "cuda:77", "no such device here"),
    ],
)
def test_a_wrong_value_is_refused_while_it_is_read(
    read: Callable[[str], object], text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match=said):
        read(text.replace("FOLDER", str(tmp_path)))


def test_paths_are_whole_wherever_processes_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w" / "long_context_eval").mkdir(parents=True)
    assert command_line.wheel("w") == tmp_path / "w"
    assert command_line.there("w") == tmp_path / "w"
    assert command_line.new_file("new/figures.json") == tmp_path / "new" / "figures.json"
    assert (tmp_path / "new").is_dir()


def test_what_a_user_can_mend_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def raises(error: BaseException) -> Callable[[], None]:
        def does() -> None:
            raise error

        return does

    failed = subprocess.CalledProcessError(2, ["x"], stderr="Traceback\n  error: no such suite\n")
    for error, said in (
        (UserError("no\nway"), "error: no way"),
        (ModuleNotFoundError("No module", name="fla.ops"), "error: needs the package fla.ops: pip install fla"),
        (FileNotFoundError(2, "No such file", "x.json"), "error: x.json: no such file or folder"),
        (failed, "error: no such suite"),
    ):
        assert run(raises(error)) == 2
        assert capsys.readouterr().err.splitlines() == [said]
    assert run(raises(KeyboardInterrupt())) == command_line.INTERRUPTED
    with pytest.raises(ZeroDivisionError):
        command_line.answer(lambda: print(1 // 0))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_answers_and_starts_its_processes_where_it_was_started(script: Path) -> None:
    source = script.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    started = [call for call in calls if ast.unparse(call.func).startswith("subprocess.")]
    assert not [call for call in started if "cwd" in {word.arg for word in call.keywords}]
    assert not started or "children" in source
    if "def main(" in source and script.stem not in STARTED:
        assert "command_line.answer(main)" in source
        assert "argparse.ArgumentParser(" not in source


def test_a_mistake_is_one_line_of_the_script_itself() -> None:
    (script,) = (path for path in SCRIPTS if path.stem == "comparisons")
    done = subprocess.run([sys.executable, script, "--repeat", "x"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
