"""Each mixer is itself: against its paper's recurrence, as reductions of one another, and by its gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import mixer_config, small_model
from torch.func import functional_call
from torch.nn.functional import softplus

from gdn2 import GDN2Config
from gdn2.config import LAYERS
from gdn2.mixers import MIXERS, Mixer
from gdn2.mixers.reference import REFERENCES, reference
from gdn2.ops import gated_delta_rule_2
from gdn2.padding import Positions
from gdn2.state import LayerState

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in LAYERS},
    "gdn2 grouped": ("gdn2", {"num_value_heads": 4, "value_head_dim": 8, "erase_range": 2.0, "output_gate": "sigmoid"}),
    "gdn2 mean gates": (
        "gdn2",
        {"erase_gate": "mean", "write_gate": "mean", "num_value_heads": 4, "value_head_dim": 8},
    ),
    "gdn2 erase a head": ("gdn2", {"erase_gate": "head", "num_value_heads": 4, "value_head_dim": 8}),
    "gdn2 write a head": ("gdn2", {"write_gate": "head", "num_value_heads": 4, "value_head_dim": 8}),
    "kda grouped": ("kda", {"num_value_heads": 4, "value_head_dim": 8, "erase_range": 2.0, "decay_floor": -5.0}),
    "gated_deltanet grouped": ("gated_deltanet", {"num_value_heads": 4, "value_head_dim": 8, "erase_range": 2.0}),
    "gated_deltanet plain": ("gated_deltanet", {"output_gate": "none", "conv_size": 2}),
    "delta_net relu sum": ("delta_net", {"qk_activation": "relu", "qk_norm": "sum", "output_gate": "silu"}),
    "delta_net elu": ("delta_net", {"qk_activation": "elu", "erase_range": 2.0}),
    "delta_net identity": ("delta_net", {"qk_activation": "identity"}),
    "gla wide": ("gla", {"value_head_dim": 24, "gla_gate_normalizer": 2.0, "output_gate": "sigmoid"}),
    "mamba2 groups": ("mamba2", {"num_heads": 4, "ssm_groups": 2, "value_head_dim": 8, "ssm_conv_bias": False}),
    "mamba3 groups": ("mamba3", {"num_heads": 4, "ssm_groups": 2, "value_head_dim": 8, "ssm_output_norm": True}),
    "mamba3 softplus": ("mamba3", {"ssm_rate": "softplus", "ssm_rope_fraction": 1.0, "ssm_bias": False}),
    "mamba3_mimo groups": ("mamba3_mimo", {"num_heads": 4, "ssm_groups": 2, "ssm_output_norm": True, "head_dim": 6}),
    "attention bias": ("attention", {"attention_bias": True, "attention_output_bias": True, "rope_theta": 100.0}),
    "attention llama3": ("attention", {"rope_llama3": LLAMA3, "attention_kv_heads": 1}),
    "attention rotated in part": ("attention", {"rope_fraction": 0.5, "condense_ratio": 3.0, "rope_theta": 100.0}),
    "swa rotated in part": ("swa", {"rope_fraction": 0.25, "condense_ratio": 2.0, "rope_llama3": LLAMA3}),
    "attention gated": ("attention", {"attention_gate": True, "attention_qk_norm": True, "zero_centred_norms": True}),
    "swa gated with biases": ("swa", {"attention_gate": True, "attention_bias": True}),
    "attention convolved": ("attention", {"attention_conv": True, "attention_qk_norm": True, "attention_bias": True}),
    "swa convolved": ("swa", {"attention_conv": True, "conv_size": 3}),
    "attention norm over all heads": ("attention", {"attention_qk_norm": True, "attention_norm_whole": True}),
    "mla low rank": ("mla", {"query_rank": 8, "attention_bias": True, "attention_output_bias": True}),
    "kda gate without bias": ("kda", {"gate_bias": False}),
    "attention with another scale": ("attention", {"attention_scale": 0.7}),
    "swa with another scale": ("swa", {"attention_scale": 0.1, "rope_theta": None}),
    "attention norm": ("attention", {"attention_qk_norm": True, "rope_theta": None}),
}


def layer(name: str, *, fresh: bool = False, **changes: Any) -> Mixer:
    """One mixer in float64 with slow decay (or as initialised) and no parameter at a special value."""
    torch.manual_seed(0)
    model = small_model(mixer_config(name, **changes)).double()
    mixer = model.model.layers[0].mixer
    if fresh:
        for parameter_name, value in mixer.initial_values().items():
            getattr(mixer, parameter_name).data.copy_(value)
    for parameter_name, parameter in mixer.named_parameters():
        if not parameter_name.endswith(("A_log", "dt_bias", "proj.weight", "in_proj.bias", "gk_proj.1.bias")):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return mixer  # type: ignore[no-any-return]


def run(mixer: Mixer, x: torch.Tensor, state: LayerState | None = None) -> tuple[torch.Tensor, LayerState]:
    """x [B, T, D] from the beginning of its text."""
    empty = mixer.empty_state(x.shape[0]) if state is None else state
    lengths = torch.zeros(x.shape[0], dtype=torch.long)
    where = (Positions.after(lengths, x.shape[1], None),) if mixer.uses_positions else ()
    return mixer(x, empty, None, *where)  # type: ignore[no-any-return]


def test_every_mixer_has_a_reference() -> None:
    assert tuple(REFERENCES) == tuple(MIXERS)


@torch.no_grad()
@pytest.mark.parametrize("fresh", [False, True], ids=["slow decay", "fresh"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_mixers_follow_their_papers_token_by_token(variant: str, fresh: bool) -> None:
    name, changes = VARIANTS[variant]
    mixer = layer(name, fresh=fresh, **changes)
    x = torch.randn(1 if fresh else 2, 35, 32, dtype=torch.float64)
    y, _ = run(mixer, x)
    expected = torch.stack([reference(mixer, name, row) for row in x])
    assert expected.abs().max() > 0.05
    torch.testing.assert_close(y, expected, atol=1e-10, rtol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_matters_to_the_reference(variant: str) -> None:
    """So a mixer and its reference cannot agree because neither reads a parameter."""
    name, changes = VARIANTS[variant]
    mixer = layer(name, **changes)
    x = torch.randn(6, 32, dtype=torch.float64)
    before = reference(mixer, name, x)
    for parameter_name, parameter in mixer.named_parameters():
        saved = parameter.data.clone()
        parameter.data += 0.1 * torch.randn_like(parameter)
        assert (reference(mixer, name, x) - before).abs().max() > 1e-9, parameter_name
        parameter.data = saved


class TestReductions:
    """b = w = beta is KDA, a scalar decay as well Gated DeltaNet, no decay DeltaNet; b = 0 GLA and Mamba-2."""

    x = torch.randn(2, 70, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def assert_same(self, left: Mixer, right: Mixer) -> None:
        (y, state), (expected, other) = run(left, self.x), run(right, self.x)
        assert expected.abs().max() > 0.05
        torch.testing.assert_close(y, expected, atol=1e-10, rtol=1e-10)
        assert state.matrix is not None
        torch.testing.assert_close(state.matrix, other.matrix, atol=1e-10, rtol=1e-10)

    @torch.no_grad()
    def test_gdn2_with_equal_gates_is_kda(self) -> None:
        kda, gdn2 = layer("kda", output_gate="silu"), layer("gdn2")
        weights = kda.state_dict()
        beta = weights["b_proj.weight"].repeat_interleave(16, dim=0)
        gdn2.load_state_dict({**weights, "b_proj.weight": beta, "w_proj.weight": beta})
        self.assert_same(gdn2, kda)

    @torch.no_grad()
    def test_kda_with_a_scalar_decay_is_gated_deltanet(self) -> None:
        changes: dict[str, Any] = {"num_value_heads": 4, "output_gate": "none"}
        kda, gated = layer("kda", **changes), layer("gated_deltanet", **changes)
        weights = gated.state_dict()
        low_rank = torch.zeros(16, 32, dtype=torch.float64)
        low_rank[:4] = weights.pop("a_proj.weight")
        heads = torch.eye(4, 16, dtype=torch.float64).repeat_interleave(16, dim=0)
        bias = weights["dt_bias"].repeat_interleave(16)
        kda.load_state_dict({**weights, "f_proj.0.weight": low_rank, "f_proj.1.weight": heads, "dt_bias": bias})
        self.assert_same(kda, gated)

    @torch.no_grad()
    def test_gated_deltanet_without_decay_is_delta_net(self) -> None:
        gated, delta = layer("gated_deltanet", output_gate="none"), layer("delta_net")
        gated.load_state_dict(delta.state_dict(), strict=False)
        gated.A_log.fill_(-torch.inf)  # type: ignore[operator]
        self.assert_same(gated, delta)

    @torch.no_grad()
    @pytest.mark.parametrize("backend", ["naive", "chunked"])
    def test_no_erasing_is_gla_and_mamba2(self, backend: str) -> None:
        """The operator with b = 0 against S = Diag(a) S + k v^T and h = exp(Delta A) h + Delta B u^T."""
        q, k, v = torch.randn(3, 1, 70, 2, 8, dtype=torch.float64)
        g, delta = -torch.rand(1, 70, 2, 8, dtype=torch.float64), softplus(torch.randn(1, 70, 2, 1)).double()
        zero, one = torch.zeros_like(q), torch.ones_like(v)
        rate = -torch.tensor([0.1, 3.0], dtype=torch.float64)[:, None] * delta
        cases = [(g, one, v), (rate.expand_as(k), delta.expand_as(v), delta * v)]
        for decay, write, written in cases:
            o, state = gated_delta_rule_2(
                q, k, v, decay, zero, write, scale=1.0, output_final_state=True, backend=backend
            )
            for head in range(2):
                S = torch.zeros(8, 8, dtype=torch.float64)
                for t in range(70):
                    S = decay[0, t, head].exp()[:, None] * S + torch.outer(k[0, t, head], written[0, t, head])
                    torch.testing.assert_close(o[0, t, head], S.T @ q[0, t, head], atol=1e-10, rtol=1e-10)
                assert state is not None
                torch.testing.assert_close(state[0, head], S, atol=1e-10, rtol=1e-10)

    @torch.no_grad()
    def test_mimo_of_rank_one_is_siso_where_nothing_rotates(self) -> None:
        mimo, siso = layer("mamba3_mimo", ssm_rank=1), layer("mamba3")
        weights = siso.state_dict()
        weights["in_proj.weight"][-4:], weights["in_proj.bias"][-4:] = 0.0, 0.0  # the angles
        siso.load_state_dict(weights)
        ones = torch.ones(2, 1, 16, dtype=torch.float64)
        mimo.load_state_dict({**weights, "mimo_x": ones, "mimo_z": ones, "mimo_o": ones})
        self.assert_same(mimo, siso)

    @torch.no_grad()
    def test_a_window_longer_than_the_text_is_full_attention(self) -> None:
        full, window = layer("attention"), layer("swa", window_size=70)
        window.load_state_dict(full.state_dict())
        torch.testing.assert_close(run(window, self.x)[0], run(full, self.x)[0], atol=1e-12, rtol=0)
        short = layer("swa", window_size=69)
        short.load_state_dict(full.state_dict())
        difference = (run(short, self.x)[0] - run(full, self.x)[0]).abs().amax((0, 2))
        assert difference[:69].max() < 1e-12
        assert difference[69] > 1e-6


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """For the input, every parameter and the state that the layer starts from."""
    sizes = {"hidden_size": 6, "head_dim": 4, "num_heads": 2, "attention_heads": 2, "attention_kv_heads": 1}
    mixer = layer(name, fresh=True, window_size=3, ssm_rank=2, **sizes)
    names, parameters = zip(*((n, p.detach().requires_grad_()) for n, p in mixer.named_parameters()), strict=True)
    first, x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    with torch.no_grad():
        state = run(mixer, first)[1].tensors()
    fields = list(state)
    lengths = torch.full((2,), 7)
    where = (Positions.after(lengths, 7, None),) if mixer.uses_positions else ()

    def forward(x: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        start = LayerState(**dict(zip(fields, tensors, strict=False)))
        weights = dict(zip(names, tensors[len(fields) :], strict=True))
        y, end = functional_call(mixer, weights, (x, start, None, *where))
        return y, *end.tensors().values()

    inputs = (x.requires_grad_(), *(tensor.requires_grad_() for tensor in state.values()), *parameters)
    assert torch.autograd.gradcheck(forward, inputs, fast_mode=True)


def test_configs_refuse_layers_that_cannot_be() -> None:
    for changes, message in (
        ({"layers": ["gdn2"] * 11}, "names 11 layers but num_hidden_layers is 12"),
        ({"layers": "gdn3"}, "no mixer 'gdn3'; did you mean 'gdn2'"),
        ({"hybrid": "swa"}, "hybrid must be NAME/n"),
        ({"hybrid": "window/2"}, "no mixer 'window'"),
        ({"layers": "gla", "num_value_heads": 16}, "num_value_heads must be num_heads"),
        ({"layers": "mamba2", "ssm_groups": 3}, "multiple of ssm_groups"),
        ({"layers": "mamba3", "head_dim": 7}, "even and at least 4"),
        ({"layers": "attention", "attention_head_dim": 7}, "even to be rotated"),
        ({"layers": "swa", "rope_fraction": 0.2}, "even to be rotated, got 128 \\* 0.2"),
        ({"rope_fraction": 1.5}, "rope_fraction must be at most 1"),
        ({"attention_heads": 8, "attention_kv_heads": 3}, "multiple of attention_kv_heads"),
        ({"decay_floor": 0.5}, "decay_floor must be negative"),
        ({"rope_llama3": {"factor": 8.0}}, "rope_llama3 must have factor, high_freq_factor, low_freq_factor"),
        ({"layers": "mla"}, "latent_size must be given in mla layers"),
        ({"attention_norm_eps": -1.0}, "attention_norm_eps must not be negative"),
        ({"qk_norm": "l1"}, "qk_norm must be one of l2, sum"),
        ({"intermediate_size": -1}, "intermediate_size must be 0"),
    ):
        with pytest.raises(ValueError, match=message):
            GDN2Config(**changes)


def test_shorthands_are_written_out() -> None:
    config = GDN2Config(num_hidden_layers=5, layers="kda", hybrid="attention/3")
    assert config.layers == ["kda", "kda", "attention", "kda", "kda"]
    assert config.hybrid is None
    assert GDN2Config.from_dict(config.to_dict()).layers == config.layers
    assert GDN2Config.from_preset("swa_gdn2_1.3B").layers == ["gdn2", "swa"] * 9
    assert GDN2Config(num_hidden_layers=2).layers == ["gdn2", "gdn2"]
