"""The command line as a user meets it: quick, and clear about mistakes."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import small_checkpoint

from basis.version import VERSION
from harness.cli import leaderboard, run
from harness.cli import main as cli
from harness.cli.examples import EXAMPLES, commands

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "lm_eval", "datasets", "tokenizers", "numpy")


def run_cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "run_eval.py", *arguments], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["tasks", "list"]])
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "HEAVY []"


def test_every_command_ends_its_help_with_examples_that_parse() -> None:
    parser = cli._parser()
    leaves = {name for name, below in commands(parser) if not any(commands(below))}
    assert leaves | {""} == set(EXAMPLES)
    for lines in EXAMPLES.values():
        for line in lines:
            if "--help" not in line:
                assert parser.parse_args(line.split()).command
    assert "examples:\n  python run_eval.py run gdn2-4m\n" in dict(commands(parser))["run"].format_help()


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"gdn2 {VERSION}\n"


def test_tasks_list_names_tasks_and_suites() -> None:
    out = run_cli("tasks", "list").stdout
    for name in ("niah_single_1", "niah_multikey_1", "squad_retrieval", "wiki_perplexity", "quick", "ruler_table3"):
        assert name in out


def test_published_rows_need_no_run() -> None:
    out = run_cli("leaderboard", "--format", "markdown").stdout
    assert re.search(r"^\| Gated DeltaNet-2 \|\s+\*\*100\*\*", out, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("checkpoint"))


class TestMistakes:
    """One line on stderr that says the way out, exit code 2, no traceback."""

    @pytest.fixture(autouse=True)
    def data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
        monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)

    def complain(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        assert cli.main(arguments) == 2
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, captured.err
        assert "Traceback" not in captured.err
        return lines[0]

    def test_unknown_checkpoint(self, capsys: pytest.CaptureFixture[str]) -> None:
        line = self.complain(capsys, "run", "no/such/folder")
        assert "no such folder" in line

    def test_unknown_task_names_the_nearest(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        line = self.complain(capsys, "run", str(folder), "--tasks", "naih_single_1@1024")
        assert "did you mean 'niah_single_1@1024'" in line

    def test_unknown_suite(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        line = self.complain(capsys, "run", str(folder), "--suite", "zzz")
        assert all(name in line for name in ("there are ", "'editing', ", "'quick', ", "'ruler_table3'"))

    @pytest.mark.parametrize(
        ("typed", "meant"),
        [
            ("leaderbord", "leaderboard"),
            ("results lst", "list"),
            ("leaderboard --seeds mean", "means"),
            ("leaderboard --format markdwon", "markdown"),
            ("plot lenght", "length"),
            ("leaderboard --suite rulr_table3", "ruler_table3"),
            ("leaderboard --columns S-NIAH1", "S-NIAH-1"),
            ("leaderboard --sort niah_singel_1@1024", "niah_single_1@1024"),
            ("leaderboard --models 'gated deltanet2'", "Gated DeltaNet-2"),
            ("study mqra-laptop", "mqar-laptop"),
            ("study tetx-4m --plan", "text-4m"),
            ("run gdn2-tyni", "gdn2-tiny"),
            ("inspect GDN2_4M", "gdn2-4m"),
            ("inspect smolm2-135m", "smollm2-135m"),
            ("plan gdn2-tiny --suite rulr_table3", "ruler_table3"),
            ("plan gdn2-tiny --tasks niah_singel_1@512", "niah_single_1@512"),
            ("plan gdn2-tiny --device cdua", "cuda"),
            ("plan gdn2-tiny --sampels 3", "--samples"),
            ("tasks show niah_singel_1", "niah_single_1"),
            ("tasks list retreival", "retrieval"),
            ("stage rulre", "ruler"),
            ("stage --checkpoint smollm2", "smollm2-135m"),
            ("compare gdn2-4n kda-4m", "gdn2-4m"),
            ("compare gdn2-4m paper:gdn2_papr/recurrent/KDA", "paper:gdn2_paper/recurrent/KDA"),
            ("results show gdn2-tyni", "gdn2-tiny"),
            ("failures kda-4n", "kda-4m"),
            ("lengths gdn2-4m --published mamba2", "Mamba-2 (recurrent)"),
            ("lengths gdn2-4m --output lengths.jsno", ".json"),
            ("plot length gdn2-4m --tasks niah_singel_1", "niah_single_1"),
            ("plot length gdn2-4m --width colum", "column"),
            ("plot length gdn2-4m --output a.pgn", "png"),
            ("plot study mqar-laptop --models gated_deltanett", "Gated DeltaNet"),
            ("report --suite rivlas", "rivals"),
        ],
    )
    def test_a_name_that_is_nearly_one_is_answered_with_it(
        self, capsys: pytest.CaptureFixture[str], typed: str, meant: str
    ) -> None:
        assert f"did you mean '{meant}'" in self.complain(capsys, *shlex.split(typed))

    def test_data_not_staged(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        line = self.complain(capsys, "run", str(folder), "--tasks", "squad_retrieval")
        assert "run `python run_eval.py stage squad`" in line

    def test_data_changed_after_staging(self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "squad.json").write_text('{"data": []}')
        (tmp_path / "data" / "manifest.json").write_text('{"files": {"squad.json": {"sha256": "' + "0" * 64 + '"}}}')
        line = self.complain(capsys, "run", str(folder), "--tasks", "squad_retrieval")
        assert "has changed since it was staged" in line

    def test_length_too_short(self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
        line = self.complain(
            capsys, "run", str(folder), "--tasks", "niah_single_1@140", "--output", str(tmp_path / "out")
        )
        assert "too short for the template" in line

    def test_bad_checkpoint(self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        broken.mkdir()
        for file in folder.iterdir():
            (broken / file.name).write_bytes(file.read_bytes())
        text = (broken / "config.json").read_text()
        (broken / "config.json").write_text(text.replace('"num_heads"', '"num_haeds"'))
        line = self.complain(
            capsys, "run", str(broken), "--tasks", "niah_single_1@512", "--output", str(tmp_path / "o")
        )
        assert "num_haeds" in line
        assert "config.json" in line

    def test_unwritable_output(self, capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        line = self.complain(
            capsys, "run", str(folder), "--tasks", "niah_single_1@512", "--output", str(tmp_path / "file")
        )
        assert "--output" in line

    def test_missing_results(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        assert "no such folder" in self.complain(capsys, "leaderboard", "--results", str(tmp_path / "none"))

    def test_unknown_data_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert "unknown data file" in self.complain(capsys, "stage", "esays")

    def test_sample_index(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        line = self.complain(capsys, "tasks", "show", "niah_single_9", "--tokenizer", str(folder))
        assert "unknown task" in line


def test_a_fault_of_ours_keeps_its_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderboard, "_leaderboard", lambda _: 1 / 0)
    assert cli.main(["leaderboard"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(leaderboard, "_leaderboard", interrupt)
    assert cli.main(["leaderboard"]) == 130
    assert "goes on from there" in capsys.readouterr().err


def test_tasks_show_prints_counts_and_marks_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_checkpoint(tmp_path)
    assert cli.main(["tasks", "show", "niah_single_1@1024", "--tokenizer", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "prompt tokens" in out
    assert "896" in out
    assert "One of the special magic numbers for" in out


def test_the_recorded_command_leaves_out_where_results_went() -> None:
    assert run._without_output(["run", "x", "--output", "a", "--seed", "1"]) == ("run", "x", "--seed", "1")
    assert run._without_output(["run", "x", "--output=a"]) == ("run", "x")


@pytest.mark.parametrize("command", [name for name, _ in commands(cli._parser())])
def test_usage_and_options_fit_into_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        cli.main([*command.split(), "--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("  python run_eval.py")]
    assert max(map(len, lines)) <= 80
