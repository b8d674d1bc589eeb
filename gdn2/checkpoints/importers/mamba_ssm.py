"""Folders of mamba_ssm, the code of Mamba's authors: Mamba-2, and Mamba-3 with one or several inputs and outputs.

    backbone.embedding.weight, backbone.layers.N.{norm,norm2}.weight, backbone.layers.N.mixer.*,
    backbone.layers.N.mlp.{fc1,fc2}.weight, backbone.norm_f.weight, lm_head.weight

config.json has no `model_type`; what the mixer is told is in `ssm_cfg`, with the defaults of its class. `fc1` holds the
matrix that is multiplied with, then the one of the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from gdn2.checkpoints.importers import mamba
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry
from gdn2.checkpoints.importers.plan import Importer, ImportPlan, Source, make_plan
from gdn2.config import CHOICES, GDN2Config
from gdn2.config_checks import MAX_LAYERS

NAME = "mamba_ssm"
KNOWN_BY = {"d_model", "n_layer", "ssm_cfg"}
EPS = 1e-5  # of every norm; no option changes it
MLP_MULTIPLE = 128  # hidden channels of the MLP are rounded up to it
HOW_IT_RUNS = ("residual_in_fp32", "fused_add_norm", "chunk_size", "use_mem_eff_path")
TRAINING = ("dt_min", "dt_max", "dt_init_floor", "A_init_range", "conv_init", "dropout")
NAMES = {"mixer_norm": "norm", "mixer": "mixer", "mlp_norm": "norm2"}


def matches(source: Source) -> bool:
    """Say whether config.json has the fields that only this code writes."""
    return source.config_file is not None and source.config.keys() >= KNOWN_BY


def plan(source: Source, settings: Mapping[str, Any]) -> ImportPlan:
    """Make the plan; every field of config.json is mapped, harmless, or refused."""
    assert source.config_file is not None
    fields = Fields(source.config_file, source.config, "mamba_ssm")
    inner = fields.inner("ssm_cfg")
    layer = inner.only("layer", *MIXERS, default="Mamba1")
    width = fields.count("d_model")
    if isinstance(layer, str) and layer in MIXERS:
        mixer = MIXERS[layer](inner, width)
    else:
        mixer = {}
        inner.skip()
    values = {**_model(fields), **mixer, "tie_word_embeddings": fields.flag("tie_embeddings", True)}
    fields.finish()
    assumed = {**mamba.ASSUMED, **({"ssm_rate": "heavy_tail"} if layer == "Mamba3" else {})}
    return make_plan(source, f"{NAME} {layer}", values, entries=key_map, assumed=assumed, settings=settings)


def key_map(config: GDN2Config, targets: list[str]) -> list[Entry]:  # noqa: ARG001 (as the others)
    """Our names to theirs."""
    top = {EMBEDDING: "backbone.embedding.weight", "model.norm.weight": "backbone.norm_f.weight", HEAD: HEAD}
    entries = []
    for name in targets:
        if name in top:
            entries.append(Entry(top[name], (name,)))
            continue
        _, _, index, part, rest = name.split(".", 4)
        theirs = f"backbone.layers.{index}."
        if part != "mlp":
            entries.append(Entry(f"{theirs}{NAMES[part]}.{rest}", (name,)))
        elif rest == "down_proj.weight":
            entries.append(Entry(f"{theirs}mlp.fc2.weight", (name,)))
        elif rest == "up_proj.weight":
            entries.append(Entry(f"{theirs}mlp.fc1.weight", (name, name.replace("up_proj", "gate_proj")), _halves))
    return entries


def _model(fields: Fields) -> dict[str, Any]:
    """Take what is around the mixers."""
    fields.only("rms_norm", True, default=True)
    fields.only("attn_layer_idx", [], None, default=None)
    fields.only("attn_cfg", {}, None, default=None)
    fields.harmless(*HOW_IT_RUNS)
    rows, multiple = fields.count("vocab_size", 50277), fields.count("pad_vocab_size_multiple", 8)
    inner = fields.take("d_intermediate", 0)
    if type(inner) is not int or inner < 0:
        fields.refuse(f"d_intermediate = {inner!r} must be a whole number")
        inner = 0
    return {
        "num_hidden_layers": fields.count("n_layer", most=MAX_LAYERS),
        "vocab_size": -(-rows // multiple) * multiple,
        "intermediate_size": -(-inner // MLP_MULTIPLE) * MLP_MULTIPLE,
        "norm_eps": EPS,
    }


def _mamba2(fields: Fields, width: int) -> dict[str, Any]:
    fields.only("d_ssm", None, default=None)
    fields.only("D_has_hdim", False, default=False)
    fields.only("rmsnorm", True, default=True)
    fields.only("norm_before_gate", False, default=False)
    mamba.unlimited_steps(fields, "dt_limit")
    return {
        **_sizes(fields, width),
        "layers": "mamba2",
        "conv_size": fields.count("d_conv", 4),
        "ssm_conv_bias": fields.flag("conv_bias", True),
        "ssm_bias": fields.flag("bias", False),
    }


def _mamba3(fields: Fields, width: int) -> dict[str, Any]:
    fields.only("A_floor", 1e-4, default=1e-4)
    return {
        **_sizes(fields, width),
        "layers": "mamba3_mimo" if fields.flag("is_mimo", False) else "mamba3",
        "ssm_rank": fields.count("mimo_rank", 4),
        "ssm_rope_fraction": fields.only("rope_fraction", *CHOICES["ssm_rope_fraction"], default=0.5),
        "ssm_output_norm": fields.flag("is_outproj_norm", False),
    }


MIXERS: dict[str, Callable[[Fields, int], dict[str, Any]]] = {"Mamba2": _mamba2, "Mamba3": _mamba3}


def _sizes(fields: Fields, width: int) -> dict[str, Any]:
    """Take what Mamba-2 and Mamba-3 have in common."""
    fields.harmless(*TRAINING, *HOW_IT_RUNS)
    size = fields.count("headdim", 64)
    return {
        "hidden_size": width,
        "num_heads": max(int(fields.number("expand", 2) * width) // size, 1),
        "head_dim": fields.count("d_state", 128),
        "value_head_dim": size,
        "ssm_groups": fields.count("ngroups", 1),
    }


def _halves(fused: Tensor) -> Sequence[Tensor]:
    return fused.chunk(2)


IMPORTER = Importer(NAME, matches, plan)
