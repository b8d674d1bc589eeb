"""The mixture of experts against its reference; what a token gets does not depend on its neighbours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import small_config

from gdn2 import GDN2Config
from gdn2.experts import Experts
from gdn2.mixers.reference_hybrids import experts

SIZES: dict[str, Any] = {"mlps": "experts", "num_experts": 5, "experts_per_token": 2, "expert_size": 12}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "shared": {"shared_expert_size": 8},
    "weights as they are": {"expert_weights_sum": False, "shared_expert_size": 8},
    "sigmoid": {"router": "sigmoid", "expert_weights_scale": 2.5},
    "groups": {"num_experts": 8, "router": "sigmoid", "router_groups": 4, "router_groups_kept": 2},
    "an open shared one": {"shared_expert_size": 8, "shared_expert_gate": False},
    "one of one": {"num_experts": 1, "experts_per_token": 1},
    "all of them": {"experts_per_token": 5},
}


def mlp(**changes: Any) -> Experts:
    torch.manual_seed(0)
    layer = Experts(small_config(**{**SIZES, **changes})).double()
    if layer.choice_bias is not None:
        layer.choice_bias.data.normal_(std=0.3)
    return layer


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_experts_follow_the_reference_token_by_token(variant: str) -> None:
    layer, x = mlp(**VARIANTS[variant]), torch.randn(2, 20, 32, dtype=torch.float64)
    expected = torch.stack([experts(layer, row) for row in x])
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(layer(x), expected, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(layer(x[:1, 3:4]), expected[:1, 3:4], atol=1e-12, rtol=1e-10)


def test_every_parameter_of_chosen_experts_has_a_gradient() -> None:
    layer = mlp(shared_expert_size=8)
    assert torch.autograd.gradcheck(layer, torch.randn(3, 32, dtype=torch.float64, requires_grad=True), fast_mode=True)
    layer(torch.randn(40, 32, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in layer.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_experts": None}, "num_experts must be given"),
        ({"num_experts": 5000}, "num_experts must be at most 4,096"),
        ({"experts_per_token": 6}, "experts_per_token must be at most num_experts"),
        ({"expert_size": 0}, "expert_size must be a positive integer"),
        ({"shared_expert_size": -1}, "shared_expert_size must be 0 .no shared expert. or more"),
        ({"router_groups": 2}, "router_groups must divide num_experts .5. into twos or more, got 2"),
        ({"num_experts": 6, "router_groups": 6}, "router_groups must divide num_experts"),
        ({"num_experts": 6, "router_groups_kept": 2}, "router_groups_kept must be at most router_groups"),
        ({"router": "hash"}, "router must be one of softmax, sigmoid, got 'hash'"),
        ({"expert_weights_scale": 0.0}, "expert_weights_scale must be positive"),
        ({"mlps": ["experts"]}, "mlps names 1 layers but num_hidden_layers is 12"),
        ({"mlps": "expert"}, "there is no MLP 'expert'; did you mean 'experts'"),
    ],
)
def test_configs_refuse_experts_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GDN2Config(**{**SIZES, **changes})


def test_the_widest_mlp_is_known() -> None:
    assert GDN2Config(**SIZES, shared_expert_size=8, intermediate_size=4).mlp_channels == 32
    assert GDN2Config(intermediate_size=4).mlp_channels == 4
