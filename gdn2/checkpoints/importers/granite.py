"""transformers' Granite hybrids (Granite 4): Mamba-2, attention, multipliers, and a SwiGLU beside experts or alone."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.importers.bamba import MIXER, ssm
from gdn2.checkpoints.importers.decoder import decoder
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.hybrids import ROUTER_TRAINING, stacked_experts
from gdn2.checkpoints.importers.keymap import Entry, block_by_block
from gdn2.checkpoints.importers.plan import Source
from gdn2.config import GDN2Config
from gdn2.config_checks import MAX_EXPERTS

HOW_IT_RUNS = ("mamba_chunk_size", "init_method")
EXPERT_FIELDS = ("num_experts_per_tok",)
LAYER_TYPES = {
    "linear_attention": "mamba2",
    "full_attention": "attention",
    "mamba": "mamba2",  # in published folders
    "attention": "attention",
}
BLOCK = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
EXPERT = re.compile(r"experts\.\d+\.(gate|up|down)_proj\.weight")
STACKED = ("block_sparse_moe.input_linear.weight", "block_sparse_moe.output_linear.weight")
BESIDE = ("shared_mlp.input_linear.weight", "shared_mlp.output_linear.weight")


def read(fields: Fields) -> dict[str, Any]:
    """Take the configuration."""
    fields.only("mlp_bias", False, None, default=False)
    fields.only("normalization_function", "rmsnorm", None, default=None)
    fields.harmless(*HOW_IT_RUNS, *ROUTER_TRAINING)
    values = decoder(fields)
    if fields.only("position_embedding_type", None, "nope", "rope", default=None) != "rope":
        values |= {"rope_theta": None, "rope_llama3": None}
    bias = fields.flag("attention_bias", False)
    recurrent = ssm(fields, values["hidden_size"])
    if recurrent["ssm_groups"] != 1:
        fields.refuse(f"mamba_n_groups = {recurrent['ssm_groups']} is not supported (only 1: its norm is one a group)")
    return {
        **values,
        **recurrent,
        **_mlps(fields, values["intermediate_size"]),
        "layers": _layers(fields, values["num_hidden_layers"]),
        "attention_bias": bias,
        "attention_output_bias": bias,
        "attention_scale": float(fields.number("attention_multiplier", 1.0)),
        "embedding_scale": float(fields.number("embedding_multiplier", 1.0)),
        "residual_scale": float(fields.number("residual_multiplier", 1.0)),
        "logits_scale": 1 / fields.number("logits_scaling", 1.0),
    }


def key_map(config: GDN2Config, targets: list[str], *, source: Source) -> list[Entry]:  # noqa: ARG001 (as the others)
    """Our names to theirs."""

    def of_block(name: str, index: int, part: str, rest: str) -> Entry:
        block = f"model.layers.{index}."
        if part == "mlp":
            return _of_mlp(config, name.removesuffix(rest), block, rest)
        inside = MIXER[config.layers[index]] if part == "mixer" else BLOCK[part]  # type: ignore[index]
        return Entry(f"{block}{inside}.{rest}", (name,))

    return block_by_block(targets, of_block)


def _of_mlp(config: GDN2Config, ours: str, block: str, rest: str) -> Entry:
    """The entry that makes an MLP's tensor, with those that come from the same one."""
    if rest == "router.weight":
        return Entry(f"{block}block_sparse_moe.router.layer.weight", (ours + rest,))
    if EXPERT.fullmatch(rest):
        return stacked_experts(config, ours, (block + STACKED[0], block + STACKED[1]), rest)
    inside = ours + ("shared_expert." if rest.startswith("shared_expert.") else "")
    if rest.endswith("down_proj.weight"):
        return Entry(block + BESIDE[1], (ours + rest,))
    return Entry(block + BESIDE[0], (f"{inside}gate_proj.weight", f"{inside}up_proj.weight"), _halves)


def _halves(fused: Tensor) -> list[Tensor]:
    return list(fused.chunk(2))


def _layers(fields: Fields, depth: int) -> list[str]:
    """Take the kind of each layer; by default none is attention."""
    types = fields.names("layer_types")
    types = ["linear_attention"] * depth if types is None else types
    if len(types) != depth:
        fields.refuse(f"layer_types names {len(types)} layers but num_hidden_layers is {depth}")
        types = ["linear_attention"] * depth
    if unknown := sorted(set(types) - LAYER_TYPES.keys()):
        fields.refuse(f"layer_types {listed(list(map(shown, unknown)), 3)} are not supported")
    return [LAYER_TYPES.get(kind, "mamba2") for kind in types]


def _mlps(fields: Fields, expert_size: int) -> dict[str, Any]:
    """Take the experts, which stand beside a SwiGLU that every token goes through; without any it stands alone."""
    size = fields.count("shared_intermediate_size", 1024)
    count = fields.take("num_local_experts", 8)
    if type(count) is not int or not 0 <= count <= MAX_EXPERTS:
        fields.refuse(f"num_local_experts = {shown(count)} must be a whole number from 0 to {MAX_EXPERTS:,}")
    if type(count) is not int or not 0 < count <= MAX_EXPERTS:
        fields.harmless(*EXPERT_FIELDS)
        return {"intermediate_size": size}
    return {
        "mlps": "experts",
        "intermediate_size": 0,
        "num_experts": count,
        "experts_per_token": fields.count("num_experts_per_tok", 2),
        "expert_size": expert_size,
        "shared_expert_size": size,
        "shared_expert_gate": False,
    }
