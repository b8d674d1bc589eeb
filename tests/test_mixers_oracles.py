"""Layers and models against transformers' own implementations of the same methods, on the CPU in float32 or float64."""

from __future__ import annotations

import pytest
import torch
from fakes import mixer_config
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3NextConfig,
)
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet
from transformers.utils.import_utils import is_flash_linear_attention_available

from gdn2 import GDN2ForCausalLM
from gdn2.mixers import MIXERS, Mixer

HIDDEN, INNER = 32, 48
pure_torch = pytest.mark.skipif(
    is_flash_linear_attention_available(), reason="beside a GPU transformers has flash-linear-attention's kernels here"
)
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
IDS = torch.randint(1, 420, (2, 50), generator=torch.Generator().manual_seed(0))


def randomise(module: torch.nn.Module) -> None:
    """No parameter at its initial value, so that none can be swapped or dropped unseen."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("A_log", "dt_bias")):  # a layer alone leaves these unset
                parameter.copy_(torch.randn_like(parameter))
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))


def rename(weights: dict[str, torch.Tensor], names: dict[str, str]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


LLAMA_NAMES = {"self_attn.": "mixer.", "input_layernorm": "mixer_norm", "post_attention_layernorm": "mlp_norm"}
MAMBA_NAMES = {
    "backbone.embeddings": "model.embed_tokens",
    ".norm.": ".mixer_norm.",
    "mixer.mixer_norm": "mixer.norm",
    "backbone.norm_f": "model.norm",
    "backbone.": "model.",
}


@torch.no_grad()
@pytest.mark.parametrize(("biased", "scaling"), [(False, None), (True, None), (False, LLAMA3)])
def test_full_attention_is_a_llama(biased: bool, scaling: dict[str, float] | None) -> None:
    rope = {"rope_type": "default", "rope_theta": 500.0, **({"rope_type": "llama3", **scaling} if scaling else {})}
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=420,
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            rope_parameters=rope,
            rms_norm_eps=1e-5,
            attention_bias=biased,
        )
    )
    randomise(llama)
    config = mixer_config(
        "attention",
        "attention",
        intermediate_size=INNER,
        rope_theta=500.0,
        rope_llama3=scaling,
        attention_bias=biased,
        attention_output_bias=biased,
    )
    model = GDN2ForCausalLM(config)
    model.load_state_dict(rename(llama.state_dict(), LLAMA_NAMES))
    assert_same_logits(model, llama)


@torch.no_grad()
def test_a_sliding_window_is_a_mistral() -> None:
    mistral = MistralForCausalLM(
        MistralConfig(
            vocab_size=420,
            hidden_size=HIDDEN,
            intermediate_size=INNER,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=11,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            rms_norm_eps=1e-5,
        )
    )
    randomise(mistral)
    model = GDN2ForCausalLM(mixer_config("swa", "swa", intermediate_size=INNER, window_size=11))
    model.load_state_dict(rename(mistral.state_dict(), LLAMA_NAMES))
    assert_same_logits(model, mistral)


@torch.no_grad()
@pytest.mark.parametrize("groups", [1, 2])
def test_mamba2_is_transformers_mamba2(groups: int) -> None:
    theirs = Mamba2ForCausalLM(
        Mamba2Config(
            vocab_size=420,
            hidden_size=HIDDEN,
            num_hidden_layers=2,
            num_heads=8,
            head_dim=8,
            state_size=16,
            expand=2,
            n_groups=groups,
            use_bias=groups == 2,
            layer_norm_epsilon=1e-5,
        )
    )
    if groups > 1 and not hasattr(theirs.backbone.layers[0].mixer.norm, "group_size"):
        pytest.skip("this transformers normalises across the groups of Mamba-2, which later ones and mamba_ssm do not")
    randomise(theirs)
    config = mixer_config(
        "mamba2",
        "mamba2",
        num_heads=8,
        head_dim=16,
        value_head_dim=8,
        ssm_groups=groups,
        ssm_bias=groups == 2,
        intermediate_size=0,
    )
    model = GDN2ForCausalLM(config)
    model.load_state_dict(rename(theirs.state_dict(), MAMBA_NAMES))
    assert_same_logits(model, theirs)


@pure_torch
@torch.no_grad()
def test_kda_is_transformers_kimi_delta_attention() -> None:
    kimi = pytest.importorskip("transformers.models.kimi_linear")  # newer than the oldest transformers that we take
    sizes = {"hidden_size": HIDDEN, "linear_num_heads": 2, "linear_head_dim": 16, "num_hidden_layers": 4}
    config = kimi.KimiLinearConfig(**sizes)
    theirs = kimi.modeling_kimi_linear.KimiLinearDeltaAttention(config, layer_idx=1)
    randomise(theirs)
    ours = MIXERS["kda"](mixer_config("kda", norm_eps=config.rms_norm_eps))
    weights = theirs.state_dict()
    taps = weights.pop("conv1d.weight").chunk(3)
    weights |= {f"{name}_conv1d.weight": part for name, part in zip("qkv", taps, strict=True)}
    names = {
        "forget_gate.f_a_proj": "f_proj.0",
        "forget_gate.f_b_proj": "f_proj.1",
        "forget_gate.": "",
        "g_a_proj": "g_proj.0",
        "g_b_proj": "g_proj.1",
    }
    renamed = rename(weights, names)
    renamed["A_log"], renamed["dt_bias"] = renamed["A_log"].flatten(), renamed["dt_bias"].flatten()
    ours.load_state_dict({**renamed, "g_proj.1.bias": torch.zeros(32)})
    assert_same_outputs(ours, theirs)


@pure_torch
@torch.no_grad()
def test_gated_deltanet_is_transformers_qwen3_next() -> None:
    config = Qwen3NextConfig(
        hidden_size=HIDDEN,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=16,
        linear_value_head_dim=8,
        num_hidden_layers=4,
        rms_norm_eps=1e-5,
    )
    theirs = Qwen3NextGatedDeltaNet(config, layer_idx=0)
    randomise(theirs)
    ours = MIXERS["gated_deltanet"](mixer_config("gated_deltanet", num_value_heads=4, value_head_dim=8))
    weights = theirs.state_dict()
    q, k, v, g = weights.pop("in_proj_qkvz.weight").view(2, -1, HIDDEN).split([16, 16, 16, 16], dim=1)
    b, a = weights.pop("in_proj_ba.weight").view(2, -1, HIDDEN).chunk(2, dim=1)
    taps = weights.pop("conv1d.weight").split([32, 32, 32])
    parts = {"q_proj": q, "k_proj": k, "v_proj": v, "g_proj": g, "b_proj": b, "a_proj": a}
    weights |= {f"{name}.weight": part.reshape(-1, HIDDEN) for name, part in parts.items()}
    weights |= {f"{name}_conv1d.weight": part for name, part in zip("qkv", taps, strict=True)}
    ours.load_state_dict(rename(weights, {"out_proj": "o_proj", "norm": "o_norm"}))
    assert_same_outputs(ours, theirs)


def assert_same_logits(ours: GDN2ForCausalLM, theirs: torch.nn.Module) -> None:
    expected = theirs.eval()(input_ids=IDS).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(ours.eval()(IDS).logits, expected, atol=2e-5, rtol=1e-5)


def assert_same_outputs(ours: Mixer, theirs: torch.nn.Module) -> None:
    x = torch.randn(2, 50, HIDDEN, generator=torch.Generator().manual_seed(1))
    expected = theirs.eval()(x)
    assert expected.std() > 0.1
    y, _ = ours.eval()(x, ours.empty_state(2), None)
    torch.testing.assert_close(y, expected, atol=2e-5, rtol=1e-5)
