"""A model's tensors under the names of the GDN-2 training code."""

from __future__ import annotations

import torch
from torch import Tensor

from gdn2 import GDN2ForCausalLM

TOP = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.norm.weight": "transformer.ln_f.weight",
    "lm_head.weight": "lm_head.weight",
}
IN_BLOCK = {
    "mixer_norm.weight": "norm_1.weight",
    "mlp_norm.weight": "norm_2.weight",
    "mlp.gate_proj.weight": "mlp.swiglu.w1.weight",
    "mlp.up_proj.weight": "mlp.swiglu.w2.weight",
    "mlp.down_proj.weight": "mlp.swiglu.w3.weight",
}
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "b_proj", "w_proj", "o_proj", "q_conv1d", "k_conv1d", "v_conv1d", "o_norm"]
MIXER = [f"{name}.weight" for name in (*PROJECTIONS, "f_proj.0", "f_proj.1", "g_proj.0", "g_proj.1")]
MIXER += ["A_log", "dt_bias", "g_proj.1.bias"]


def official_layout(model: GDN2ForCausalLM) -> dict[str, Tensor]:
    """The state dict under the names of the training code, written down without the importer's help."""
    config, ours = model.config, model.state_dict()
    theirs = {TOP[name]: ours[name] for name in TOP}
    for index, kind in enumerate(config.layers):
        block = {name: ours[f"model.layers.{index}.{name}"] for name in IN_BLOCK}
        theirs |= {f"transformer.h.{index}.{IN_BLOCK[name]}": tensor for name, tensor in block.items()}
        mixer = f"model.layers.{index}.mixer."
        if kind == "gdn2":
            theirs |= {f"transformer.h.{index}.attn.{name}": ours[mixer + name] for name in MIXER}
            continue
        size, groups = config.attention_head_dim, config.attention_kv_heads
        queries = config.attention_heads // groups
        rows: list[Tensor] = []
        for group in range(groups):
            first = group * queries * size
            rows.append(ours[mixer + "q_proj.weight"][first : first + queries * size])
            rows.append(ours[mixer + "k_proj.weight"][group * size : (group + 1) * size])
            rows.append(ours[mixer + "v_proj.weight"][group * size : (group + 1) * size])
        theirs[f"transformer.h.{index}.attn.attn.weight"] = torch.cat(rows)
        theirs[f"transformer.h.{index}.attn.proj.weight"] = ours[mixer + "o_proj.weight"]
    return theirs
