"""What is recognised and not read is refused with its name, the reason and, where there is one, the way in."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from fakes import small_model
from official_layout import official_layout
from safetensors.torch import save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from transformers import CONFIG_MAPPING

from gdn2.checkpoints import CheckpointError, load_checkpoint
from gdn2.checkpoints.importers import fla, import_checkpoint, plan_import, transformers
from gdn2.checkpoints.importers.unread import MODELS


def folder_of(path: Path, model_type: str) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    return path


@pytest.mark.parametrize("kind", MODELS)
def test_a_recurrent_model_that_is_not_read_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    assert kind in CONFIG_MAPPING
    assert kind not in {*transformers.KINDS, *fla.KINDS}
    with pytest.raises(CheckpointError, match=f"model_type '{kind}' is not read: it has .*no layer here computes"):
        plan_import(folder_of(tmp_path / kind, kind))


def test_every_model_of_transformers_is_read_or_refused_by_its_name(tmp_path: Path) -> None:
    """None of them ends in another error than ours, whatever is missing in its folder."""
    others = sorted(set(CONFIG_MAPPING) - {*transformers.KINDS, *MODELS, "gdn2"})
    assert len(others) > 200
    path = folder_of(tmp_path / "source", "")
    save_file({"weight": torch.ones(2)}, path / "model.safetensors")
    for kind in others:
        (path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(CheckpointError, match=f"of no known format .model_type '{kind}'"):
            plan_import(path)


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("Megatron-core", ["embedding.word_embeddings.weight", "decoder.layers.0.self_attention.in_proj.weight"]),
        ("Megatron-core", ["module.embedding.word_embeddings.weight", "module.decoder.layers.0.mlp.linear_fc1.weight"]),
        ("OLMo-core", ["embeddings.weight", "blocks.0.attention.w_q.weight", "lm_head.w_out.weight"]),
    ],
)
def test_a_trainers_layout_is_named(tmp_path: Path, layout: str, names: list[str]) -> None:
    torch.save({"model": {name: torch.ones(2, 2) for name in names}}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=f"named as in {layout}, whose layout changes between versions: .*import"):
        plan_import(tmp_path / "model.pt")


@pytest.mark.parametrize("inside", [".", "model_and_optim", "iter_0000100"])
def test_a_sharded_checkpoint_is_refused_with_the_command_whose_file_is_read(tmp_path: Path, inside: str) -> None:
    model = small_model()
    shards = tmp_path / "sharded" / inside
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": official_layout(model)}, checkpoint_id=shards, no_dist=True)
    with pytest.raises(CheckpointError, match=r"is a sharded checkpoint .* dcp_to_torch .* model\.pt"):
        plan_import(tmp_path / "sharded")
    dcp_to_torch_save(shards, tmp_path / "model.pt")
    import_checkpoint(tmp_path / "model.pt", tmp_path / "new")
    ids = torch.randint(0, 420, (1, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "new")(ids).logits, model(ids).logits)
