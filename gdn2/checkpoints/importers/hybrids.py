"""transformers' hybrids of recurrent layers and attention: Qwen3-Next and Qwen3.5, with SwiGLUs or experts.

Gated DeltaNet layers are followed by attention with an output gate, whose rotary embedding turns a part of a head. What
their matrices hold side by side is told apart here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from basis.errors import shown
from basis.names import listed
from gdn2.checkpoints.importers.decoder import decoder
from gdn2.checkpoints.importers.fields import REQUIRED, Fields
from gdn2.checkpoints.importers.keymap import HEAD, Entry, block_by_block
from gdn2.checkpoints.importers.plan import Source
from gdn2.config import GDN2Config
from gdn2.config_checks import MAX_EXPERTS

NOT_READ = ("mtp.", "model.visual.")  # heads that predict several tokens; the part that sees pictures
VISION = ("vision_config", "image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
SEVERAL_TOKENS = ("mtp_num_hidden_layers", "mtp_use_dedicated_embeddings")  # of what predicts them, which is not read
ROUTER_TRAINING = ("output_router_logits", "router_aux_loss_coef")
EXPERT_FIELDS = ("num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size", "norm_topk_prob")
LAYER_TYPES = {"linear_attention": "gated_deltanet", "full_attention": "attention"}
INSIDE = "model.language_model."  # where a model of pictures and text keeps its decoder
BLOCK = {"mixer_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "mlp": "mlp"}
MIXER = {"attention": "self_attn", "gated_deltanet": "linear_attn"}
RENAMED = {"o_norm": "norm", "o_proj": "out_proj", "g_proj": "in_proj_z", "b_proj": "in_proj_b", "a_proj": "in_proj_a"}
EXPERTS = {"router": "gate", "shared_gate": "shared_expert_gate"}
EXPERT = re.compile(r"experts\.\d+\.(gate|up|down)_proj\.weight")
Split = Callable[[Tensor], Sequence[Tensor]]
Fused = dict[str, tuple[tuple[str, ...], Split]]  # their matrix: ours in it, and how it is split


def _qwen3_next(fields: Fields) -> dict[str, Any]:
    values = _qwen(fields)
    step, dense = fields.count("decoder_sparse_step", 1), fields.take("mlp_only_layers", None) or []
    if not isinstance(dense, list) or not all(type(layer) is int for layer in dense):
        fields.refuse(f"mlp_only_layers = {shown(dense)} must be a list of layers")
        dense = []
    sparse = [layer not in dense and (layer + 1) % step == 0 for layer in range(values["num_hidden_layers"])]
    return {**values, **_experts(fields, sparse, number=512, per_token=10)}


def _qwen3_5(fields: Fields) -> dict[str, Any]:
    fields.only("mlp_only_layers", [], None, default=None)
    return _qwen(fields)


def _qwen3_5_moe(fields: Fields) -> dict[str, Any]:
    fields.only("mlp_only_layers", [], None, default=None)
    values = _qwen(fields, inner=1)
    sparse = [True] * values["num_hidden_layers"]
    return {**values, **_experts(fields, sparse, number=256, per_token=8), "intermediate_size": 0}


def _qwen(fields: Fields, inner: Any = REQUIRED) -> dict[str, Any]:
    """Take what both have in common; windows are of earlier models and must be off."""
    fields.only("use_sliding_window", False, None, default=None)
    fields.only("attn_output_gate", True, default=True)
    fields.harmless("sliding_window", "max_window_layers", *SEVERAL_TOKENS, "mamba_ssm_dtype")
    values = decoder(fields, head_dim=256, rotated=0.25, inner=inner)
    bias = fields.flag("attention_bias", False)
    return {
        **values,
        "layers": layer_kinds(fields, values["num_hidden_layers"]),
        "num_heads": fields.count("linear_num_key_heads", 16),
        "num_value_heads": fields.count("linear_num_value_heads", 32),
        "head_dim": fields.count("linear_key_head_dim", 128),
        "value_head_dim": fields.count("linear_value_head_dim", 128),
        "conv_size": fields.count("linear_conv_kernel_dim", 4),
        "output_gate": "silu",
        "attention_bias": bias,
        "attention_output_bias": bias,
        "attention_qk_norm": True,
        "attention_gate": True,
        "zero_centred_norms": True,
    }


KINDS: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "qwen3_next": _qwen3_next,
    "qwen3_5": _qwen3_5,
    "qwen3_5_text": _qwen3_5,
    "qwen3_5_moe": _qwen3_5_moe,
    "qwen3_5_moe_text": _qwen3_5_moe,
}


def text_config(source: Source) -> dict[str, Any]:
    """The fields of the text model, where config.json is that of a model of pictures and text."""
    inner = source.config.get("text_config")
    if not isinstance(inner, dict):
        return source.config
    outer = {name: value for name, value in source.config.items() if name not in (*VISION, "text_config")}
    return {**inner, **outer}


def key_map(config: GDN2Config, targets: list[str], *, source: Source) -> list[Entry]:
    """Our names to theirs; several of our tensors may be one of theirs."""
    top = INSIDE if any(name.startswith(INSIDE) for name in source.tensors) else "model."
    fused = {name: _fused(config, name, source.model_type) for name in MIXER}

    def outside(name: str) -> str:
        return name if name == HEAD else top + name.removeprefix("model.")

    def of_block(name: str, index: int, part: str, rest: str) -> Entry:
        mixer, theirs = config.layers[index], f"{top}layers.{index}."  # type: ignore[index]
        if part == "mixer":
            return _of_mixer(name, f"{theirs}{MIXER[mixer]}.", rest, fused[mixer], rename=mixer != "attention")
        if part == "mlp" and EXPERT.fullmatch(rest) and f"{theirs}mlp.experts.gate_up_proj" in source.tensors:
            stacked = f"{theirs}mlp.experts.gate_up_proj", f"{theirs}mlp.experts.down_proj"
            return stacked_experts(config, name.removesuffix(rest), stacked, rest)
        first, dot, after = rest.partition(".")
        return Entry(f"{theirs}{BLOCK[part]}.{EXPERTS.get(first, first)}{dot}{after}", (name,))

    return block_by_block(targets, of_block, outside)


def convolutions(config: GDN2Config, theirs: str, ours: str) -> Entry:
    """The three convolutions of a mixer, where they are one tensor; `ours` is what our names begin with."""
    keys, values = config.num_heads * config.head_dim, config.num_value_heads * config.value_head_dim  # type: ignore[operator]
    names = tuple(f"{ours}{one}_conv1d.weight" for one in "qkv")
    return Entry(theirs, names, partial(_in_blocks, sizes=[keys, keys, values]))


def stacked_experts(config: GDN2Config, ours: str, theirs: tuple[str, str], rest: str) -> Entry:
    """All experts' matrices where they are one tensor with an expert a slice: gate and up together, and down.

    Args:
        config: of our model.
        ours: what our names begin with.
        theirs: the names of the two tensors.
        rest: the end of the name of one of ours.
    """
    experts = range(config.num_experts)  # type: ignore[arg-type]
    E, I, D = len(experts), config.expert_size, config.hidden_size
    if rest.endswith("down_proj.weight"):
        names = tuple(f"{ours}experts.{e}.down_proj.weight" for e in experts)
        return Entry(theirs[1], names, _slices, (E, D, I))  # type: ignore[arg-type]
    names = tuple(f"{ours}experts.{e}.{half}_proj.weight" for e in experts for half in ("gate", "up"))
    return Entry(theirs[0], names, _halves, (E, 2 * I, D))  # type: ignore[operator]


def layer_kinds(fields: Fields, depth: int) -> list[str]:
    """Take the kind of each layer: `layer_types`, or every n-th is attention."""
    every, types = fields.count("full_attention_interval", 4), fields.names("layer_types")
    if types is None:
        types = ["linear_attention" if (layer + 1) % every else "full_attention" for layer in range(depth)]
    if len(types) != depth:
        fields.refuse(f"layer_types names {len(types)} layers but num_hidden_layers is {depth}")
        types = ["full_attention"] * depth
    if unknown := sorted(set(types) - LAYER_TYPES.keys()):
        fields.refuse(f"layer_types {listed(list(map(shown, unknown)), 3)} are not supported")
    return [LAYER_TYPES.get(kind, "attention") for kind in types]


def _experts(fields: Fields, sparse: list[bool], *, number: int, per_token: int) -> dict[str, Any]:
    """Take the experts of the layers that are sparse; no expert at all means that none is."""
    fields.harmless(*ROUTER_TRAINING)
    count = fields.take("num_experts", number)
    if type(count) is not int or not 0 <= count <= MAX_EXPERTS:
        fields.refuse(f"num_experts = {shown(count)} must be a whole number from 0 to {MAX_EXPERTS:,}")
    if type(count) is not int or not 0 < count <= MAX_EXPERTS or not any(sparse):
        fields.harmless(*EXPERT_FIELDS)
        return {}
    return {
        "mlps": ["experts" if one else "swiglu" for one in sparse],
        "num_experts": count,
        "experts_per_token": fields.count("num_experts_per_tok", per_token),
        "expert_size": fields.count("moe_intermediate_size", 512),
        "expert_weights_sum": fields.flag("norm_topk_prob", True),
        "shared_expert_size": fields.count("shared_expert_intermediate_size", 512),
    }


def _fused(config: GDN2Config, mixer: str, kind: str) -> Fused:
    """What stands side by side in a mixer's matrices: in Qwen3-Next by head, in Qwen3.5's recurrence in blocks."""
    if mixer == "attention":
        size: int = config.attention_head_dim  # type: ignore[assignment]
        heads: int = config.attention_heads  # type: ignore[assignment]
        return {"q_proj": (("q_proj", "g_proj"), partial(_by_head, heads=heads, sizes=[size, size]))}
    H, K, G = config.num_heads, config.head_dim, config.num_value_heads // config.num_heads  # type: ignore[operator]
    V: int = config.value_head_dim  # type: ignore[assignment]
    rows = partial(_in_blocks, sizes=[H * K, H * K, H * G * V])
    convolution: Fused = {"conv1d": (("q_conv1d", "k_conv1d", "v_conv1d"), rows)}
    if kind != "qwen3_next":
        return {**convolution, "in_proj_qkv": (("q_proj", "k_proj", "v_proj"), rows)}
    return {
        **convolution,
        "in_proj_qkvz": (
            ("q_proj", "k_proj", "v_proj", "g_proj"),
            partial(_by_head, heads=H, sizes=[K, K, G * V, G * V]),
        ),
        "in_proj_ba": (("b_proj", "a_proj"), partial(_by_head, heads=H, sizes=[G, G])),
    }


def _of_mixer(name: str, theirs: str, rest: str, fused: Fused, *, rename: bool) -> Entry:
    """The entry that makes a mixer's tensor, with those that come from the same one."""
    part, dot, kind = rest.partition(".")
    for source, (parts, split) in fused.items():
        if part in parts:
            ours = tuple(f"{name.removesuffix(rest)}{one}{dot}{kind}" for one in parts)
            return Entry(f"{theirs}{source}{dot}{kind}", ours, split)
    return Entry(f"{theirs}{RENAMED.get(part, part) if rename else part}{dot}{kind}", (name,))


def _by_head(fused: Tensor, heads: int, sizes: list[int]) -> list[Tensor]:
    """Rows that stand together a head, by what they are: [H * sum(sizes), ...] to [H * size, ...] each."""
    return [part.flatten(0, 1) for part in fused.unflatten(0, (heads, -1)).split(sizes, dim=1)]


def _in_blocks(fused: Tensor, sizes: list[int]) -> list[Tensor]:
    return list(fused.split(sizes))


def _slices(stacked: Tensor) -> list[Tensor]:
    return list(stacked)


def _halves(stacked: Tensor) -> list[Tensor]:
    return [half for expert in stacked for half in expert.chunk(2)]
