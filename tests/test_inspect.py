"""`inspect`: what it says is what the model has."""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model, small_tokenizer
from rich.console import Console

from gdn2 import GDN2Config
from gdn2.checkpoints import CheckpointError, fingerprint
from gdn2.checkpoints.describe import describe
from harness.checkpoints.inspection import Inspection, inspect
from harness.cli.main import main
from harness.show.imports import layers_line
from harness.show.inspection import print_inspection

tokenizer = lru_cache(small_tokenizer)  # which is trained
MIXERS = ["gdn2", "kda", "gated_deltanet", "delta_net", "gla", "mamba2", "mamba3", "mamba3_mimo", "attention", "swa"]


def save(folder: Path, *layers: str, **changes: Any) -> Path:
    small_model(mixer_config(*layers, **changes)).save_pretrained(folder)
    tokenizer(adds_bos=True).save_pretrained(folder)
    return folder


def shown(folder: Path, width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    print_inspection(inspect(str(folder)), console)
    return stream.getvalue()


def test_parameters_and_state_are_those_of_the_model(tmp_path: Path) -> None:
    folder = save(tmp_path / "all", *MIXERS)
    model: Any = small_model(mixer_config(*MIXERS))
    found = describe(folder)
    assert found.parameters["total"] == sum(parameter.numel() for parameter in model.parameters())
    runs = sum((r.mixer_parameters + r.mlp_parameters) * (r.last - r.first + 1) for r in found.layers)
    assert runs == found.parameters["blocks"] == sum(p.numel() for p in model.model.layers.parameters())
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        state = model.to(dtype).model.empty_state(1)
        assert found.state["bytes"][name] == state.num_bytes - 8, "all but the length"
        with torch.no_grad():
            after = model(torch.tensor([[1, 2, 3]])).past_key_values
        assert found.state["token_bytes"][name] == (after.num_bytes - state.num_bytes) // 3
    assert found.sha256 == fingerprint(folder)
    assert [run.mixer for run in found.layers] == MIXERS


@pytest.mark.parametrize(
    ("preset", "blocks", "matrices"),
    [("gdn2_1.3B", 1302638112, 18 * 262144), ("swa_gdn2_1.3B", 1300314384, 9 * 262144 + 9 * 2 * 2048 * 2304)],
)
def test_the_published_sizes_are_told(preset: str, blocks: int, matrices: int) -> None:
    """262,144 floats a layer, and parameters as the paper counts them."""
    from gdn2.checkpoints import describe as module

    config = GDN2Config.from_preset(preset)
    with torch.device("meta"):
        model = module.GDN2ForCausalLM(config)
    assert module._parameters(config, model)["blocks"] == blocks
    assert module._state(model)["matrix_floats"] == matrices


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_hybrid_fits_the_terminal_and_folds_its_layers(tmp_path: Path, width: int) -> None:
    text = shown(save(tmp_path / "hybrid", *["gdn2", "swa"] * 4), width)
    assert "8 layers: gdn2, swa in turn" in text
    assert "0, 2, … 6 (4)" in text
    assert "1, 3, … 7 (4)" in text
    assert "window 16" in text
    assert "adds BOS" in text
    assert "puts <|endoftext|> before a context" in " ".join(text.split())
    first, *others = text.splitlines()
    assert "hybrid" in first  # the path may be longer than the terminal
    assert all(len(line) <= width for line in others)


def test_full_attention_says_what_a_token_costs(tmp_path: Path) -> None:
    text = shown(save(tmp_path / "model", "gdn2", "attention", "attention"), 120)
    assert "1–2" in text
    assert "64 a token" in text
    assert "and 128 floats for every token: 512 bytes in float32, 256 bytes in bfloat16" in text


def test_the_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path / "model", "gdn2", "gdn2")
    assert main(["inspect", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["format"] == "gdn2"
    assert printed["tokenizer"]["vocabulary"] == len(tokenizer())
    assert printed["layers"][0]["state_floats"] == 2 * 16 * 16
    assert main(["inspect", str(folder)]) == 0
    assert "2 heads of 16 x 16" in capsys.readouterr().out


def test_a_foreign_checkpoint_is_described_as_it_would_be_imported(tmp_path: Path) -> None:
    from official_layout import official_layout

    torch.save({"model": official_layout(small_model())}, tmp_path / "iter.pth")
    found = describe(tmp_path / "iter.pth")
    assert found.format == "official"
    assert found.assumed["output_gate"] == "silu"
    text = shown_file(tmp_path / "iter.pth")
    assert "format official, as it would be imported" in text
    assert "output_gate = silu (the file does not tell" in text


def shown_file(file: Path) -> str:
    stream = io.StringIO()
    print_inspection(Inspection(describe(file), {"error": "none"}), Console(file=stream, width=120))
    return stream.getvalue()


def test_tensors_that_contradict_the_config_are_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", "gdn2", "gdn2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 65}))
    with pytest.raises(CheckpointError, match=r"do not fit config\.json: 6 of another shape: .*mlp\.gate_proj"):
        describe(folder)


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        (["kda"], "1 layer: kda"),
        (["kda"] * 4, "4 layers: kda"),
        (["gdn2", "swa"] * 3, "6 layers: gdn2, swa in turn"),
        (["gdn2", "gdn2", "swa"] * 2, "6 layers: gdn2, gdn2, swa in turn"),
        (["gdn2", "gdn2", "gdn2", "swa"], "4 layers: 3 x gdn2, 1 x swa"),
    ],
)
def test_layers_are_named_in_a_line(layers: list[str], line: str) -> None:
    assert layers_line(layers) == line
