"""`run` on a foreign checkpoint: imported once, found again by content, evaluated like any other."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import TEXT, small_model, small_tokenizer
from official_layout import official_layout
from rich.console import Console
from runs import run
from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from basis.hub import checkpoint_name
from gdn2.checkpoints import fingerprint, read_config
from gdn2.checkpoints.importers import ImportPlan, import_checkpoint
from gdn2.checkpoints.loss import mean_loss, windows
from harness.checkpoints.find import find_checkpoint, which_was_taken
from harness.checkpoints.imports import cached_import
from harness.cli.main import main
from harness.errors import UserError
from harness.lm.model import GDN2LM
from harness.paths import ZOO
from harness.runs.listener import Silence
from harness.runs.options import RunOptions
from harness.runs.resolve import resolve_run, with_native_checkpoint


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A .pth with its tokenizer beside it; imports go below the temporary folder."""
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "cache" / "data"))
    (tmp_path / "trained").mkdir()
    small_tokenizer().save_pretrained(tmp_path / "trained")
    torch.save({"model": official_layout(small_model())}, tmp_path / "trained" / "iter-9.pth")
    return tmp_path / "trained" / "iter-9.pth"


def test_a_run_imports_on_the_way(foreign: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    options = RunOptions(
        checkpoint=str(foreign), tasks=("niah_single_1@512",), samples=1, device="cpu", output=tmp_path / "runs"
    )
    record, _ = run(options, Console(file=said, width=200))
    import_checkpoint(foreign, tmp_path / "by hand")
    assert record.name == "iter-9"
    assert record.model.checkpoint_sha256 == fingerprint(tmp_path / "by hand")
    assert "output_gate = silu  (assumed" in said.getvalue()
    assert "the context prefix `tokenizer` is a guess for a checkpoint of the GDN-2 training code" in said.getvalue()


def test_an_import_is_found_again_by_content(foreign: Path, tmp_path: Path) -> None:
    first = cached_import(foreign, None)
    assert first.is_new
    assert first.folder.parent == tmp_path / "cache" / "imported"
    moved = foreign.with_name("iter-9.pth").rename(foreign.parent / "iter-9.pth")
    made = (first.folder / "import.json").stat().st_mtime_ns
    again = cached_import(moved, None)
    assert (again.folder, again.is_new) == (first.folder, False)
    assert (first.folder / "import.json").stat().st_mtime_ns == made
    torch.save({"model": official_layout(small_model(seed=1))}, foreign)
    assert cached_import(foreign, None).folder != first.folder


def test_an_earlier_import_is_said_to_be_one(foreign: Path, tmp_path: Path) -> None:
    options = RunOptions(
        checkpoint=str(foreign), tasks=("niah_single_1@512",), samples=1, device="cpu", output=tmp_path / "runs"
    )
    first = cached_import(foreign, None)
    said = io.StringIO()
    run(options, Console(file=said, width=200))
    assert f"imported earlier: {first.folder}" in said.getvalue().replace("\n", "")


def test_settings_are_given_to_an_import_on_the_way(foreign: Path, tmp_path: Path) -> None:
    options = RunOptions(checkpoint=str(foreign), tasks=("niah_single_1@512",), output=tmp_path / "runs")
    plain = with_native_checkpoint(resolve_run(options), Silence())
    told = with_native_checkpoint(resolve_run(replace(options, settings=("output_gate=sigmoid",))), Silence())
    assert read_config(plain.checkpoint).output_gate == "silu"
    assert read_config(told.checkpoint).output_gate == "sigmoid"
    native = replace(options, checkpoint=str(told.checkpoint), settings=("output_gate=silu",))
    with pytest.raises(UserError, match=r"--set: .* is a checkpoint of this project"):
        with_native_checkpoint(resolve_run(native), Silence())


def test_a_foreign_checkpoint_is_checked_without_a_command_before(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    command = ["check", str(foreign), "--text", str(tmp_path / "text.txt"), "--length", "32", "--no-hints", "--json"]
    assert main([*command, "--expect-loss", "1"]) == 1
    loss = json.loads(capsys.readouterr().out)["loss"]
    ids = small_tokenizer().encode(TEXT)
    assert loss == pytest.approx(mean_loss(small_model(), ids, windows(len(ids), 32)).mean, abs=1e-5)


def test_check_and_run_read_one_tokenizer_whatever_lies_beside_the_source(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside a config.json that makes transformers choose another class, and another splitting of digits."""
    text = "In 2023, 4071398 and 12 of 1999."
    backend = small_tokenizer().backend_tokenizer
    two = pre_tokenizers.Split(Regex(r"\p{N}{1,2}"), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([two, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>").save_pretrained(foreign.parent)
    (foreign.parent / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (tmp_path / "text.txt").write_text(text)
    command = ["check", str(foreign), "--text", str(tmp_path / "text.txt"), "--length", "32", "--no-hints", "--json"]
    assert main([*command, "--expect-loss", "1"]) == 1
    model = GDN2LM(str(cached_import(foreign, None).folder))
    assert json.loads(capsys.readouterr().out)["num_tokens"] == len(model.tok_encode(text)) - 1
    assert model.tok_encode(text) == backend.encode(text).ids


def test_an_import_that_another_run_makes_meanwhile_is_used(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gdn2.checkpoints.importers import writing

    plan_of = writing._config

    def config_after_the_other(plan: ImportPlan) -> dict[str, object]:
        monkeypatch.setattr(writing, "_config", plan_of)
        assert cached_import(foreign, None).is_new
        return plan_of(plan)

    monkeypatch.setattr(writing, "_config", config_after_the_other)
    found = cached_import(foreign, None)
    folder = found.folder
    assert not found.is_new
    assert (folder / "import.json").is_file()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_import_command(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import", str(foreign), str(tmp_path / "new")]
    assert main([*command, "--set", "output_gate=silu"]) == 0
    printed = capsys.readouterr().out
    assert "format official, 2 layers: gdn2" in printed
    assert "output_gate = silu  (set)" in printed
    assert main(command) == 2
    assert "exists already and is not overwritten" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "nothing"), str(tmp_path / "other")]) == 2
    assert main(["import", str(foreign), str(tmp_path / "other"), "--tokenizer", str(tmp_path)]) == 2
    assert "no tokenizer in it" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("damage", ["cut weights", "other weights", "no config", "broken config", "no import.json"])
def test_a_damaged_import_is_put_aside_and_made_again(foreign: Path, damage: str) -> None:
    folder = cached_import(foreign, None).folder
    before = fingerprint(folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif damage == "other weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    elif damage == "broken config":
        config.write_text("{")
    else:
        (config if damage == "no config" else folder / "import.json").unlink()
    again = cached_import(foreign, None)
    assert again.folder == folder
    assert fingerprint(folder) == before
    assert [note.split(":")[0] for note in again.notes] == ["made again"]
    assert [path.name for path in folder.parent.iterdir() if path.suffix == ".damaged"] == [f"{folder.name}.damaged"]


class TestNamesOfTheZoo:
    """A local folder of a zoo model's name: which was taken is said, and an empty one hides nothing."""

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_without_a_folder_nothing_is_said(self) -> None:
        assert find_checkpoint("gdn2-tiny") == ZOO / "gdn2-tiny"
        assert which_was_taken("gdn2-tiny") is None

    @pytest.mark.parametrize("content", [None, "record.json", "runs/quick.json"])
    def test_a_folder_without_a_checkpoint_hides_nothing(self, tmp_path: Path, content: str | None) -> None:
        (tmp_path / "gdn2-tiny").mkdir()
        if content:
            (tmp_path / "gdn2-tiny" / content).parent.mkdir(exist_ok=True)
            (tmp_path / "gdn2-tiny" / content).write_text("{}")
        assert find_checkpoint("gdn2-tiny") == ZOO / "gdn2-tiny"
        assert "the checkpoint of the zoo; the folder" in (which_was_taken("gdn2-tiny") or "")
        assert find_checkpoint("./gdn2-tiny") == Path("gdn2-tiny")

    def test_a_checkpoint_of_that_name_is_taken_and_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small_model().save_pretrained(tmp_path / "gdn2-tiny")
        small_tokenizer().save_pretrained(tmp_path / "gdn2-tiny")
        assert find_checkpoint("gdn2-tiny") == Path("gdn2-tiny")
        assert main(["inspect", "gdn2-tiny", "--json"]) == 0
        printed = capsys.readouterr()
        assert json.loads(printed.out)["config"]["vocab_size"] == 420
        said = " ".join(printed.err.split())
        assert "not the checkpoint of the zoo, which is" in said

    def test_a_repository_of_a_hub_cache_gives_its_name(self, tmp_path: Path) -> None:
        snapshot = tmp_path / "models--someone--small" / "snapshots" / "abc"
        small_model().save_pretrained(snapshot)
        assert find_checkpoint(str(tmp_path / "models--someone--small")) == snapshot
        assert checkpoint_name(snapshot) == "small"

    def test_no_name_is_no_folder(self) -> None:
        with pytest.raises(UserError, match="no name at all"):
            find_checkpoint("")
