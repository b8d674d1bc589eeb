"""transformers' Kimi Linear: Kimi Delta Attention, latent attention without positions, and experts (arXiv:2510.26692).

Folders come with the fields and names of the published weights, or with those that transformers writes; both are read.
"""

from __future__ import annotations

import re
from typing import Any

from basis.errors import shown
from gdn2.checkpoints.importers.fields import Fields
from gdn2.checkpoints.importers.hybrids import ROUTER_TRAINING, convolutions
from gdn2.checkpoints.importers.keymap import Entry, block_by_block
from gdn2.checkpoints.importers.plan import Source
from gdn2.config import GDN2Config
from gdn2.config_checks import MAX_EXPERTS, MAX_LAYERS, MAX_TOKENS

LATENT_EPS = 1e-6  # of latent attention's norms, whatever rms_norm_eps is
LAYER_TYPES = {"linear_attention": "kda", "full_attention": "mla"}
MLP_TYPES = {"dense": "swiglu", "sparse": "experts"}
DERIVED = ("head_dim", "qk_head_dim", "rope_theta", "rope_scaling", "rope_parameters")  # from others, or for positions
BLOCK = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "mixer": "self_attn"}
PROJECTIONS = {
    "kda": {"f_proj.0": "f_a_proj", "f_proj.1": "f_b_proj", "g_proj.0": "g_a_proj", "g_proj.1": "g_b_proj"},
    "mla": {
        "q_down": "q_a_proj",
        "q_norm": "q_a_layernorm",
        "kv_down": "kv_a_proj_with_mqa",
        "kv_norm": "kv_a_layernorm",
        "kv_up": "kv_b_proj",
    },
}
MLP = {"router.weight": "gate.weight", "choice_bias": "gate.e_score_correction_bias"}
EXPERT = re.compile(r"experts\.(\d+)\.(gate|up|down)_proj\.weight")
NUMBERS = {"gate": "w1", "up": "w3", "down": "w2"}


def read(fields: Fields) -> dict[str, Any]:
    """Take the configuration."""
    fields.only("hidden_act", "silu", "swish", default="silu")
    fields.only("mla_use_nope", True, default=True)
    fields.only("pretraining_tp", 1, None, default=1)
    fields.only("num_nextn_predict_layers", 0, None, default=0)
    fields.harmless(*DERIVED)
    depth, heads = fields.count("num_hidden_layers", 27, most=MAX_LAYERS), fields.count("num_attention_heads", 32)
    fields.only("num_key_value_heads", heads, None, default=None, why="as many as queries")
    rank = fields.count("q_lora_rank", None)
    bias = fields.flag("attention_bias", False)
    longest = fields.count("model_max_length", 1 << 20, most=MAX_TOKENS)
    return {
        **_recurrent(fields, depth),
        **_experts(fields, depth),
        "vocab_size": fields.count("vocab_size", 163840),
        "hidden_size": fields.count("hidden_size", 2304),
        "num_hidden_layers": depth,
        "intermediate_size": fields.count("intermediate_size", 9216),
        "norm_eps": fields.number("rms_norm_eps", 1e-5, positive=False),
        "max_position_embeddings": fields.count("max_position_embeddings", longest, most=MAX_TOKENS),
        "output_gate": "sigmoid",
        "gate_bias": False,
        "attention_norm_eps": LATENT_EPS,
        "attention_heads": heads,
        "attention_kv_heads": heads,
        "attention_bias": bias,
        "attention_output_bias": bias,
        "query_rank": rank,
        "latent_size": fields.count("kv_lora_rank", 512),
        "latent_key_dim": fields.count("qk_nope_head_dim", 128),
        "latent_value_dim": fields.count("v_head_dim", 128),
        "shared_key_dim": fields.count("qk_rope_head_dim", 64),
        "rope_theta": None,
    }


def key_map(config: GDN2Config, targets: list[str], *, source: Source) -> list[Entry]:
    """Our names to theirs."""
    stored = source.tensors

    def of_block(name: str, index: int, part: str, rest: str) -> Entry:
        block, mixer = f"model.layers.{index}.", config.layers[index]  # type: ignore[index]
        fused = f"{block}self_attn.conv1d.weight"
        if part == "mlp":
            sparse = f"{block}block_sparse_moe."
            inside = sparse if any(one.startswith(sparse) for one in stored) else f"{block}mlp."
            return Entry(inside + _in_mlp(rest), (name,))
        if rest.endswith("_conv1d.weight") and fused in stored:
            return convolutions(config, fused, name.removesuffix(rest))
        projection, _, kind = rest.rpartition(".")
        known = PROJECTIONS[mixer] if part == "mixer" else {}
        if mixer == "mla" and config.query_rank is not None:
            known = {**known, "q_proj": "q_b_proj"}
        theirs = f"{known[projection]}.{kind}" if projection in known else rest
        return Entry(f"{block}{BLOCK[part]}.{theirs}", (name,))

    return block_by_block(targets, of_block)


def _recurrent(fields: Fields, depth: int) -> dict[str, Any]:
    """Take the kinds of layers and the sizes of the recurrent ones, which published folders have in an object."""
    inner = fields.inner("linear_attn_config")
    full, linear = (_places(inner, name, depth) for name in ("full_attn_layers", "kda_layers"))
    types = fields.names("layer_types")
    if types is None and full is not None and linear is not None:
        if sorted(full + linear) != list(range(1, depth + 1)):
            fields.refuse("linear_attn_config: full_attn_layers and kda_layers must name every layer once, from 1 on")
        types = ["full_attention" if layer in full else "linear_attention" for layer in range(1, depth + 1)]
    elif types is None:
        types = ["full_attention" if layer and layer % 4 == 0 else "linear_attention" for layer in range(depth)]
    if len(types) != depth:
        fields.refuse(f"layer_types names {len(types)} layers but num_hidden_layers is {depth}")
        types = ["full_attention"] * depth
    size = inner.count("head_dim", fields.count("linear_head_dim", 128))
    return {
        "layers": [_known(fields, kind, LAYER_TYPES, "layer_types") for kind in types],
        "num_heads": inner.count("num_heads", fields.count("linear_num_heads", 32)),
        "head_dim": size,
        "value_head_dim": size,
        "gate_rank": size,
        "conv_size": inner.count("short_conv_kernel_size", fields.count("linear_conv_kernel_dim", 4)),
    }


def _experts(fields: Fields, depth: int) -> dict[str, Any]:
    """Take the router and the experts; the first layers have none."""
    fields.harmless(*ROUTER_TRAINING)
    fields.only("moe_router_activation_func", "sigmoid", default="sigmoid")
    fields.only("moe_layer_freq", 1, default=1)
    fields.only("use_grouped_topk", True, default=True)
    dense, types = fields.take("first_k_dense_replace", 1), fields.names("mlp_layer_types")
    if type(dense) is not int or dense < 0:
        fields.refuse(f"first_k_dense_replace = {shown(dense)} must be a whole number")
        dense = 1
    if types is None:
        types = ["dense" if layer < dense else "sparse" for layer in range(depth)]
    size = fields.count("moe_intermediate_size", 1024)
    return {
        "mlps": [_known(fields, kind, MLP_TYPES, "mlp_layer_types") for kind in types],
        "num_experts": fields.count("num_experts", fields.take("num_local_experts", 256), most=MAX_EXPERTS),
        "experts_per_token": fields.count("num_experts_per_token", fields.take("num_experts_per_tok", 8)),
        "expert_size": size,
        "expert_weights_sum": fields.flag("moe_renormalize", True),
        "expert_weights_scale": float(fields.number("routed_scaling_factor", 2.446)),
        "router": "sigmoid",
        "router_groups": fields.count("num_expert_group", 1),
        "router_groups_kept": fields.count("topk_group", 1),
        "shared_expert_size": size * fields.count("num_shared_experts", 1),
        "shared_expert_gate": False,
    }


def _places(inner: Fields, name: str, depth: int) -> list[int] | None:
    places = inner.take(name, None)
    if places is None:
        return None
    if not isinstance(places, list) or not all(type(place) is int and 1 <= place <= depth for place in places):
        inner.refuse(f"{inner.inside}{name} = {shown(places)} must be a list of layers from 1 to {depth}")
        return None
    return places


def _known(fields: Fields, kind: str, kinds: dict[str, str], field: str) -> str:
    if kind not in kinds:
        fields.refuse(f"{field}: {shown(kind)} is not supported (only {' or '.join(map(repr, kinds))})")
    return kinds.get(kind, next(iter(kinds.values())))


def _in_mlp(rest: str) -> str:
    """Their name of an MLP's tensor; an expert's matrices have numbers."""
    if match := EXPERT.fullmatch(rest):
        return f"experts.{match[1]}.{NUMBERS[match[2]]}.weight"
    return MLP.get(rest, rest.replace("shared_expert.", "shared_experts."))
