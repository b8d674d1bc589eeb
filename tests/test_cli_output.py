"""Commands whose output goes nowhere: no traceback, and an exit code that says what happened."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.cli.arguments import check_texts
from harness.cli.console import SPELLED, Forgiving, spell_out
from harness.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def run_in_shell(rest: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line with its redirections, and say its own exit code on the last line."""
    command = f"{sys.executable} {ROOT / 'run_eval.py'} {rest}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GDN2_DATA": str(folder)}
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env, check=False)


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("tasks list >/dev/full", 2),
        ("--version >/dev/full", 2),
        ("tasks list >&- 2>&-", 0),
        ("tasks list | true; exit ${PIPESTATUS[0]}", 0),
        ("run nonsense 2>&1 | true; exit ${PIPESTATUS[0]}", 2),
        ("run nonsense 2>/dev/full", 2),
        ("tasks shwo 2>&-", 2),
    ],
)
def test_no_closed_or_full_output_ends_in_a_traceback(rest: str, code: int, tmp_path: Path) -> None:
    done = run_in_shell(rest, tmp_path)
    assert done.returncode == code, done.stderr
    assert not any(word in done.stdout + done.stderr for word in ("Traceback", "Exception ignored"))


def test_what_standard_error_cannot_take_is_lost_and_nothing_else(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full, Path(tmp_path / "log").open("w") as log:
        for stream in (full, log):
            out = Forgiving(stream)
            assert out.write("a line\n") == 7
            out.flush()
            assert out.encoding == stream.encoding
    assert (tmp_path / "log").read_text() == "a line\n"
    assert Forgiving(None).write("x") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "x", "--output", ""], "--output: must not be empty"),
        (["run", "x", "--output= "], "--output: must not be empty"),
        (["run", ""], "an argument: must not be empty"),
        (["inspect", "a\udcff"], "'a\\udcff' is no valid UTF-8 text"),
        (["check", "x", "--text", "\0"], "--text: '\\x00' is no valid UTF-8 text"),
    ],
)
def test_arguments_that_are_no_text_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        check_texts(arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run gdn2-tiny --device cdua", "--device 'cdua': no such device; known: auto, cpu, cuda"),
        ("run gdn2-tiny --device cuda:x", "no such device"),
        ("run gdn2-tiny --context-prefix bso", "argument --context-prefix: invalid choice: 'bso'"),
        ("run gdn2-tiny --suite quikc", "unknown suite 'quikc'"),
        ("run gdn2-tiny --tasks niah_sinlge_1@512", "unknown task 'niah_sinlge_1@512'; did you mean"),
        ("run gdn2-tiny --samples 0", "--samples must be at least 1"),
        ("run gdn2-tiny --samples x", "argument --samples: invalid int value: 'x'"),
        (f"run gdn2-tiny --name {'x' * 200}", "--name: is a folder's name, at most 150 bytes"),
        ("plan gdn2-tiny --tokens-per-second nan", "argument --tokens-per-second: must be a number above 0, got 'nan'"),
        ("plan gdn2-tiny --samples 1000000000000", "--samples must be at most 1000000"),
        ("plan nonsense", "checkpoint 'nonsense': no such folder"),
        ("tasks show niah_single_1@512 --index -1", "argument --index: must be at least 0, got -1"),
        ("tasks show niah_single_1@512 --seed 99999999999999999999", "argument --seed: must be at most"),
        ("tasks show niah_single_1@512 --context-prefix x", "argument --context-prefix: invalid choice"),
        ("tasks show squad_retrieval --shots 3", "takes no solved examples"),
        ("tasks check x.yaml --samples 0", "argument --samples: must be at least 1, got 0"),
        ("tasks check x.yaml --length 99999999999", "argument --length: must be at most"),
        ("check gdn2-tiny --text x --expect-loss nan", "argument --expect-loss: must be a number above 0, got 'nan'"),
        ("check gdn2-tiny --text x --expect-loss 2 --tolerance inf", "argument --tolerance: must be a number above 0"),
        ("check gdn2-tiny --text absent --expect-loss 2", "--text absent: no such file"),
        ("check gdn2-tiny --text x --expect-loss 2 --dtype float8", "argument --dtype: invalid choice: 'float8'"),
        ("check gdn2-tiny --text x --expect-loss 2 --device gpu", "--device 'gpu': no such device"),
        ("stage --source pypi", "argument --source: invalid choice: 'pypi'"),
        ("leaderboard --suite quikc", "unknown suite 'quikc'"),
        ("leaderboard --results absent-folder", "absent-folder: no such folder of results"),
        ("leaderboard --results /dev/null", "/dev/null: no such folder of results"),
        (
            "run gdn2-tiny --tasks niah_single_1@512 --prefix-states /dev/null",
            "choose another folder with --prefix-states",
        ),
        ("tasks", "the following arguments are required"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(
    line: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(line.split()) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said


def test_wrong_options_are_told_before_anything_heavy_is_imported() -> None:
    lines = [
        "run gdn2-tiny --suite quikc", "run gdn2-tiny --device cdua", "plan gdn2-tiny --tasks absent",
        "check gdn2-tiny --text absent --expect-loss 2", "tasks show niah_single_1", "tasks check x.yaml --samples 0",
    ]  # fmt: skip
    code = (
        f"import sys; from harness.cli.main import main; print([main(line.split()) for line in {lines!r}]); "
        "print([name for name in ('torch', 'transformers', 'lm_eval', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[:2] == ["[2, 2, 2, 2, 2, 2]", "[]"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_that_lacks_our_letters_has_them_spelled_and_numbers_stay_what_they_are(encoding: str) -> None:
    text = "−5.0…+16.7 ≥4K 96.0⁹ 1–2 模\n"
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    spell_out(stream)
    stream.write(text)
    stream.flush()
    written = stream.buffer.getvalue().decode(encoding)
    if encoding == "utf-8":
        assert written == text
        return
    for letter, spelled in (("−", "-"), ("…", ".."), ("≥", ">="), ("⁹", "^9"), ("–", "-"), ("模", "\\u6a21")):
        text = text.replace(letter, letter if letter in written else spelled)
    assert written == text
    assert written.startswith("-5.0")
    assert all(spelled.isascii() for spelled in SPELLED.values())


LONG = "x" * 300


@pytest.mark.parametrize(
    "command",
    [
        ["run", LONG],
        ["run", "gdn2-tiny", "--suite", LONG],
        ["leaderboard", "--suite", LONG],
        ["study", LONG],
        ["study", "mqar-laptop", "--plan", "--output", LONG],
        ["study", "mqar-laptop", "--plan", "--table", LONG],
        ["plot", "study", LONG],
    ],
    ids=lambda command: " ".join(command[:-1]),
)
def test_a_name_that_no_file_can_have_is_one_line(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "xxx" in line


def test_a_folder_that_may_not_be_entered_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    assert cli.main(["study", "closed/study.yaml"]) == 2
    assert "study.yaml': cannot be used (Permission denied)" in capsys.readouterr().err
