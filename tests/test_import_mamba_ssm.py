"""Folders of mamba_ssm: their tensors, named by a second table, become a model that computes the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import small_config, small_model
from safetensors.torch import load_file
from torch import Tensor

from gdn2.checkpoints import CheckpointError, load_checkpoint
from gdn2.checkpoints.describe import describe
from gdn2.checkpoints.importers import import_checkpoint, plan_import
from gdn2.checkpoints.variants import variants

WIDTH, STATE, HEAD = 32, 16, 8
OURS: dict[str, Any] = {
    "hidden_size": WIDTH,
    "vocab_size": 104,  # 97 rounded up to a multiple of 8
    "num_heads": 2 * WIDTH // HEAD,
    "head_dim": STATE,
    "value_head_dim": HEAD,
    "intermediate_size": 0,
    "initializer_range": 0.2,
}
THEIRS: dict[str, Any] = {"d_state": STATE, "headdim": HEAD, "chunk_size": 64}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "Mamba-3": ({"layers": "mamba3"}, {"layer": "Mamba3"}, {}),
    "Mamba-3 with an MLP": (
        {"layers": "mamba3", "intermediate_size": 128, "ssm_output_norm": True, "ssm_rope_fraction": 1.0},
        {"layer": "Mamba3", "is_outproj_norm": True, "rope_fraction": 1.0},
        {"d_intermediate": 100},
    ),
    "Mamba-3 of several inputs": (
        {"layers": "mamba3_mimo", "ssm_rank": 2, "intermediate_size": 128, "ssm_groups": 2},
        {"layer": "Mamba3", "is_mimo": True, "mimo_rank": 2, "ngroups": 2},
        {"d_intermediate": 128},
    ),
    "Mamba-2": ({"layers": "mamba2"}, {"layer": "Mamba2", "d_conv": 4}, {}),
}


def write(folder: Path, name: str, **change: Any) -> Any:
    """A folder as their `save_pretrained` writes it, and the model that it holds."""
    ours, inner, outer = MODELS[name]
    model = small_model(small_config(**{**OURS, **ours, "tie_word_embeddings": True}))
    folder.mkdir(parents=True, exist_ok=True)
    config = {"d_model": WIDTH, "d_intermediate": 0, "n_layer": 2, "vocab_size": 97, "ssm_cfg": {**THEIRS, **inner}}
    config |= {"attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True}
    config |= {"pad_vocab_size_multiple": 8, "tie_embeddings": True}
    (folder / "config.json").write_text(json.dumps({**config, **outer, **change}))
    torch.save(theirs(model.state_dict()), folder / "pytorch_model.bin")
    return model


def theirs(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their names, written out a second time."""
    renamed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        name = name.replace("model.embed_tokens", "backbone.embedding").replace("model.norm", "backbone.norm_f")
        name = (
            name.replace("model.layers", "backbone.layers").replace("mixer_norm", "norm").replace("mlp_norm", "norm2")
        )
        renamed[name.replace("down_proj", "fc2")] = weight
    for name in [name for name in renamed if name.endswith("up_proj.weight")]:
        gate = renamed.pop(name.replace("up_proj", "gate_proj"))
        renamed[name.replace("up_proj", "fc1")] = torch.cat([renamed.pop(name), gate])
    return renamed


@pytest.mark.parametrize("name", MODELS)
def test_an_import_is_the_model_that_was_written(tmp_path: Path, name: str) -> None:
    model = write(tmp_path / "source", name)
    plan = import_checkpoint(tmp_path / "source", tmp_path / "new")
    found = load_file(tmp_path / "new" / "model.safetensors")
    expected = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    assert sorted(found) == sorted(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    ids = torch.randint(1, 97, (2, 21), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "new")(ids).logits, model(ids).logits)
    assert plan.format == f"mamba_ssm {MODELS[name][1]['layer']}"


def test_the_mlp_gates_the_second_half() -> None:
    """fc1 x = [y, gate] and fc2 (y * silu(gate)), as their class has it."""
    ours, _, _ = MODELS["Mamba-3 with an MLP"]
    mlp: Any = small_model(small_config(**{**OURS, **ours})).model.layers[0].mlp
    weights = theirs({f"mlp.{name}": weight for name, weight in mlp.state_dict().items()})
    x = torch.randn(3, WIDTH)
    y, gate = (x @ weights["mlp.fc1.weight"].T).chunk(2, dim=-1)
    expected = (y * torch.nn.functional.silu(gate)) @ weights["mlp.fc2.weight"].T
    torch.testing.assert_close(mlp(x), expected, atol=1e-6, rtol=1e-5)


def test_the_rate_is_assumed_said_and_tried_by_check(tmp_path: Path) -> None:
    write(tmp_path, "Mamba-3")
    assert describe(tmp_path).assumed == {"max_position_embeddings": 2048, "ssm_rate": "heavy_tail"}
    other = plan_import(tmp_path, {"ssm_rate": "softplus"})
    assert other.config.ssm_rate == "softplus"
    assert "ssm_rate" not in other.assumed
    tried = [variant.changes for variant in variants(plan_import(tmp_path).config)]
    assert {"ssm_rate": "softplus"} in tried


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ssm_cfg": {"layer": "Mamba1"}}, "layer = 'Mamba1' is not supported .only 'Mamba2' or 'Mamba3'"),
        ({"ssm_cfg": {}}, "layer = 'Mamba1' is not supported"),
        ({"ssm_cfg": {**THEIRS, "layer": "Mamba3", "magic": 1}}, r"ssm_cfg\.magic = 1 is not known"),
        ({"ssm_cfg": {**THEIRS, "layer": "Mamba3", "A_floor": 0.1}}, r"A_floor = 0\.1 is not supported"),
        ({"ssm_cfg": {**THEIRS, "layer": "Mamba3", "is_mimo": True}}, r"missing: .*mimo_x"),
        ({"ssm_cfg": {"layer": ["Mamba3"]}}, "layer = .'Mamba3'. is not supported"),
        ({"attn_layer_idx": [1]}, r"attn_layer_idx = \[1\] is not supported"),
        ({"rms_norm": False}, "rms_norm = False is not supported"),
        ({"d_intermediate": 64}, r"missing: .*(norm2|fc1)"),
        ({"d_intermediate": "wide"}, "d_intermediate = 'wide' must be a whole number"),
        ({"n_layer": 3}, r"missing: backbone\.layers\.2"),
        ({"vocab_size": 200}, r"of another shape: backbone\.embedding\.weight"),
    ],
)
def test_what_contradicts_or_is_not_there_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, "Mamba-3", **change)
    with pytest.raises(CheckpointError, match=message):
        plan_import(tmp_path)
