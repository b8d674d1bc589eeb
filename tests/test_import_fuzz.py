"""Generated configurations, indexes and settings: whatever they hold, the answer is a plan or a CheckpointError."""

from __future__ import annotations

import copy
import json
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import small_config
from safetensors.torch import save_file

from gdn2.checkpoints import CheckpointError, read_config
from gdn2.checkpoints.describe import describe
from gdn2.checkpoints.importers import parse_settings, plan_import

CASES = 60  # of each configuration
SECONDS = 20  # in which one input is answered, on a slow machine too
DECODER: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 56,
}
DECODER |= {"num_hidden_layers": 2, "vocab_size": 97, "max_position_embeddings": 64, "rms_norm_eps": 1e-6}
FLA = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 97, "num_heads": 2, "norm_eps": 1e-6}
ATTN = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "window_size": 16, "rope_theta": 1e4, "qkv_bias": True}
SSM = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 97, "head_dim": 16, "state_size": 8, "norm_eps": 1e-5}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "norm_topk_prob": True}
TYPES = ["linear_attention", "full_attention"]
KIMI = {"kv_lora_rank": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "qk_rope_head_dim": 4, "num_experts": 4}
CONFIGS: dict[str, dict[str, Any]] = {
    "gdn2": json.loads(small_config(rope_llama3=None).to_json_string()),
    "llama": {**DECODER, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}},
    "mistral": {**DECODER, "sliding_window": 7, "rope_scaling": {"type": "default"}},
    "qwen2": {**DECODER, "use_sliding_window": True, "layer_types": ["full_attention"] * 2, "sliding_window": 5},
    "qwen3": {**DECODER, "head_dim": 16, "attention_bias": False},
    "qwen3_next": {
        **DECODER,
        **DELTA,
        **EXPERTS,
        "layer_types": TYPES,
        "mlp_only_layers": [1],
        "decoder_sparse_step": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5},
    },
    "qwen3_5_moe": {"text_config": {**DECODER, **DELTA, **EXPERTS, "layer_types": TYPES}, "vision_config": {}},
    "olmo_hybrid": {**DECODER, **DELTA, "layer_types": TYPES, "rope_theta": None, "linear_allow_neg_eigval": True},
    "kimi_linear": {
        **DECODER,
        **KIMI,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
        "mlp_layer_types": None,
        "linear_attn_config": {"full_attn_layers": [2], "kda_layers": [1], "head_dim": 8, "num_heads": 2},
    },
    "bamba": {**DECODER, "attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": "auto", "mamba_d_state": 8},
    "mamba_ssm": {
        "d_model": 32,
        "n_layer": 2,
        "vocab_size": 97,
        "d_intermediate": 64,
        "tie_embeddings": True,
        "ssm_cfg": {"layer": "Mamba3", "headdim": 8, "d_state": 8, "is_mimo": True, "rope_fraction": 0.5},
    },
    "kda": {**FLA, "head_dim": 16, "expand_v": 1, "attn": ATTN, "safe_gate": True, "lower_bound": -5.0},
    "gated_deltanet": {**FLA, "head_dim": 16, "expand_v": 2, "attn": [ATTN], "output_gate_activation": "swish"},
    "delta_net": {**FLA, "expand_k": 1.0, "qk_norm": "l2", "qk_activation": "silu"},
    "gla": {**FLA, "expand_k": 0.5, "feature_map": None, "clamp_min": None},
    "transformer": {**FLA, "num_kv_heads": 1, "window_size": None, "qk_norm": True},
    "mamba2": {**SSM, "expand": 2, "n_groups": 1, "dt_limit": [0.0, 1e9], "time_step_limit": [0, "Infinity"]},
    "mamba3": {**SSM, "expand": 2, "is_mimo": True, "mimo_rank": 2, "rope_fraction": 0.5},
}
EXTRA = ["new", "_own", "dtype", "torch_dtype", "quantization_config", "hybrid", "layers", "is_encoder_decoder"]
HOSTILE: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 0.5, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"),
    10**6, 2**24, 2**63, 10**30, 10**400, "", "1", "1e-5", "silu", "default", "llama3", "\x1b]0;x\x07", "\u2028",
    "x" * 3000, [], {}, [[]], [None], [1, 2, 3], ["gdn2", 5], ["full_attention"], {"a": 1}, {"rope_theta": "x"},
    {"rope_type": []}, [{"layers": 3}], {"full_attention": 3}, {"layers": [10**9]}, {"": {"": {"": None}}}, "float8",
    {"bits": 4},
]  # fmt: skip


def mutated(config: dict[str, Any], draw: random.Random) -> Iterator[dict[str, Any]]:
    """Every field once with a hostile value, then several at once, also inside objects and under new names."""
    for name in config:
        yield {**config, name: draw.choice(HOSTILE)}
    for _ in range(CASES):
        changed = copy.deepcopy(config)
        for _ in range(draw.randint(1, 3)):
            inside = [changed, *(value for value in changed.values() if isinstance(value, dict))]
            where = draw.choice(inside)
            name = draw.choice([*where, *EXTRA])
            if draw.random() < 0.15:
                where.pop(name, None)
            else:
                where[name] = copy.deepcopy(draw.choice(HOSTILE))
        yield changed


def answers(ask: Callable[[], Any], what: object) -> None:
    """The call returns or raises CheckpointError on one line, within its time."""

    def too_late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS)
    try:
        ask()
    except CheckpointError as error:
        if "\n" in str(error) or len(str(error)) > 4000:
            pytest.fail(f"not one line: {error}; for {what!r:.2000}")
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}; for {what!r:.2000}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_config_ends_in_anything_but_a_checkpoint_error(tmp_path: Path, kind: str) -> None:
    save_file(
        {f"lm_head.weight{index or ''}": torch.zeros(97, 32) for index in range(3)}, tmp_path / "model.safetensors"
    )
    for config in mutated({"model_type": kind, **CONFIGS[kind]}, random.Random(kind)):
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        for ask in (describe, read_config if kind == "gdn2" else plan_import):
            answers(lambda ask=ask: ask(tmp_path), config)  # type: ignore[misc]


def test_sizes_beyond_every_machine_are_refused(tmp_path: Path) -> None:
    """Each is possible, but their product is no size of a tensor."""
    save_file({name: torch.zeros(2) for name in ("lm_head.weight", "a", "b")}, tmp_path / "model.safetensors")
    for change in ({"mimo_rank": 2**24, "state_size": 2**24}, {"head_dim": 1, "hidden_size": 2**23, "n_groups": 2**24}):
        config = {"model_type": "mamba3", **CONFIGS["mamba3"], **change}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        answers(lambda: plan_import(tmp_path), config)


def test_no_file_in_a_configs_place_ends_in_anything_else(tmp_path: Path) -> None:
    save_file({"lm_head.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    deep = "[" * 100_000
    odd = ("\ufeff{}", "{}\x00", '{"a": "\\ud800"}')
    for content in ("", "{", "[]", "3", '"x"', "null", deep, f'{{"a": {deep}', *odd):
        for name in ("config.json", "model.safetensors.index.json"):
            (tmp_path / name).write_text(content, encoding="utf-8")
            answers(lambda: describe(tmp_path), (name, content[:50]))
        (tmp_path / "model.safetensors.index.json").unlink()
    (tmp_path / "config.json").write_bytes(b"\xff\xfe{}")
    answers(lambda: describe(tmp_path), "latin-1")


def test_no_setting_ends_in_anything_but_a_checkpoint_error(tmp_path: Path) -> None:
    from fakes import small_model
    from official_layout import official_layout

    file = tmp_path / "iter.pth"
    torch.save({"model": official_layout(small_model())}, file)
    draw = random.Random(0)
    names = [*small_config().to_dict(), "rotary_percentage", "", "x"]
    for name in names:
        for value in draw.sample(HOSTILE, 3):
            text = f"{name}={json.dumps(value)}"
            answers(lambda text=text: plan_import(file, parse_settings([text])), text)  # type: ignore[misc]
    for text in ("", "=", "norm_eps", "norm_eps=NaN", "norm_eps=Infinity", "norm_eps=-1", "norm_eps=" + "[" * 10**5):
        with pytest.raises(CheckpointError):
            plan_import(file, parse_settings([text]))
