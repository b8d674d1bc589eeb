"""Rivals of equal state: what `state_floats` says is what models hold, and `matched_state` makes it equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import mixer_config

from gdn2 import GDN2Config, GDN2Model
from gdn2.config import GROWING_LAYERS, LAYERS
from gdn2.matching import matched_state, state_floats

RECURRENT = [name for name in LAYERS if name not in ("swa", *GROWING_LAYERS)]
GDN2_1B = GDN2Config.from_preset("gdn2_1.3B")


def held(config: GDN2Config) -> list[int]:
    """Floats of the matrices and windows that a model's empty state holds."""
    with torch.device("meta"):
        layers = GDN2Model(config).empty_state(1).layers
    fields = ("matrix", "window_keys", "window_values")
    return [sum(layer.tensors()[name].numel() for name in fields if name in layer.tensors()) for layer in layers]


@pytest.mark.parametrize("name", [name for name in LAYERS if name not in GROWING_LAYERS])
def test_models_hold_what_state_floats_says(name: str) -> None:
    config = mixer_config(name, value_head_dim=8)
    assert state_floats(config) == held(config)


def test_grouped_values_and_hybrids_are_counted() -> None:
    config = mixer_config("gdn2", "swa", "kda", "gated_deltanet", num_value_heads=6)
    assert state_floats(config) == held(config) == [6 * 16 * 16, 2 * 16 * 2 * 16, 6 * 16 * 16, 6 * 16 * 16]
    assert state_floats(mixer_config("attention", "gla")) == [None, 2 * 16 * 16]
    assert set(state_floats(GDN2_1B)) == {262_144}  # as in the paper


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("sizes", [{}, {"head_dim": 64}, {"head_dim": 128, "value_head_dim": 64}, {"num_heads": 6}])
def test_every_rival_can_have_the_state_of_the_1b_model(name: str, sizes: dict[str, Any]) -> None:
    config = GDN2Config(layers=name, num_hidden_layers=2, hidden_size=2048, **sizes)
    matched = matched_state(config, like=GDN2_1B)
    assert held(matched) == [262_144] * 2
    assert matched.layers == config.layers
    assert matched.hidden_size == 2048


def test_groups_and_ranks_follow_and_windows_stay() -> None:
    grouped = matched_state(mixer_config("kda", num_value_heads=4, head_dim=64, value_head_dim=128), like=GDN2_1B)
    assert (grouped.num_heads, grouped.num_value_heads) == (16, 32)
    narrow = matched_state(mixer_config("gdn2", num_heads=3, head_dim=128), like=mixer_config("gdn2", num_heads=6))
    assert (narrow.num_heads, narrow.value_head_dim, narrow.gate_rank) == (3, 4, 4)
    hybrid = matched_state(mixer_config("gla", "swa"), like=GDN2_1B)
    assert state_floats(hybrid) == [262_144, 16 * 2 * 2 * 16]
    window = matched_state(mixer_config("swa"), like=mixer_config("gdn2"))
    assert window.window_size == 8
    assert state_floats(window) == state_floats(mixer_config("gdn2")) == [512]


def test_what_cannot_be_matched_is_refused() -> None:
    with pytest.raises(ValueError, match=r"262,144 state floats cannot be matched: .*head_dim 48 \* value_head_dim 48"):
        matched_state(GDN2Config(num_heads=5, head_dim=48), like=GDN2_1B)
    with pytest.raises(ValueError, match="no whole number of tokens in a window: a token has 192"):
        matched_state(mixer_config("swa", attention_head_dim=48), like=GDN2_1B)
    for config, like in ((mixer_config("attention"), GDN2_1B), (GDN2_1B, mixer_config("attention"))):
        with pytest.raises(ValueError, match="full attention only has no state of fixed size"):
            matched_state(config, like=like)
