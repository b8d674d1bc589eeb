"""What mixers share: their contract, and the parts of those that project to queries, keys and values.

Letters: B batch, T tokens, H heads, K key dim, V value dim, G value heads a head, D width of the residual stream.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gdn2.mixers.stepping import gate_step, project_step, steps
from gdn2.modules import L2_EPS, Linear, RMSNorm, ShortConvolution, convolve, last_inputs, unit_length, wide
from gdn2.ops import gated_delta_rule_2
from gdn2.ops.fused import fuses, reaches_kernels
from gdn2.ops.learning import convolve as learned_convolution
from gdn2.ops.learning import convolves, learns
from gdn2.ops.learning import decay as learned_decay
from gdn2.ops.onednn import wide_linear
from gdn2.padding import Padding
from gdn2.products import Products
from gdn2.state import LayerState

if TYPE_CHECKING:
    from gdn2.config import GDN2Config
    from gdn2.ops.triton.stepping import LowRankDecay

MAX_HEAD = 1024  # channels of a head that one program of the convolution's kernel takes

Projected = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Queries, keys and values, and the convolution's new last inputs, None without one."""


class Mixer(nn.Module):
    """One layer's exchange between tokens.

    `forward(x, state, padding)` takes x [B, T, D], the layer's state and the padding among the tokens (None: there is
    none) and returns y [B, T, D] and the state after each row's last real token; a mixer that `uses_positions` takes
    a `Positions` after that. The values at padding must be finite and changes nothing.
    """

    uses_positions = False

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token."""
        raise NotImplementedError

    def initial_values(self) -> dict[str, Tensor]:
        """Fresh values of the parameters that are neither weights of a linear layer nor of a norm, by name."""
        return {}


class QKVMixer(Mixer):
    """A mixer with q, k and v projections, a short convolution over them, a norm a head and a gate behind it.

    Args:
        gate: what `config.output_gate` means when it is None.
        low_rank_gate: whether the gate's projection goes through `gate_rank` channels and has a bias.
        convolution: whether there is a convolution.
    """

    def __init__(self, config: GDN2Config, *, gate: str, low_rank_gate: bool = False, convolution: bool = True) -> None:
        super().__init__()
        D, self.num_heads, self.key_dim = config.hidden_size, config.num_heads, config.head_dim
        self.value_dim: int = config.value_head_dim  # type: ignore[assignment]
        self.num_value_heads: int = config.num_value_heads  # type: ignore[assignment]
        self.state_shape = (self.num_value_heads, self.key_dim, self.value_dim)
        keys, values = self.num_heads * self.key_dim, self.num_value_heads * self.value_dim
        self.channels = (keys, keys, values)
        self.conv_size = config.conv_size if convolution else 1
        self.fits_kernels = max(self.key_dim, self.value_dim) <= MAX_HEAD
        self.erase_range = config.erase_range

        self.q_proj = Linear(D, keys, bias=False)
        self.k_proj = Linear(D, keys, bias=False)
        self.v_proj = Linear(D, values, bias=False)
        self.convolution = convolution
        if convolution:
            self.q_conv1d = ShortConvolution(keys, config.conv_size)
            self.k_conv1d = ShortConvolution(keys, config.conv_size)
            self.v_conv1d = ShortConvolution(values, config.conv_size)
        self.gate = config.output_gate or gate
        if self.gate != "none":
            rank: int = config.gate_rank  # type: ignore[assignment]
            self.g_proj: nn.Module = (
                nn.Sequential(Linear(D, rank, bias=False), Linear(rank, values, bias=config.gate_bias))
                if low_rank_gate
                else Linear(D, values, bias=False)
            )
        self.o_norm = RMSNorm(self.value_dim, config.mixer_eps)
        self.o_proj = Linear(values, D, bias=False)

    def empty_state(self, batch_size: int) -> LayerState:
        """The state before the first token."""
        parameter = self.q_proj.weight
        matrix = parameter.new_zeros(batch_size, *self.state_shape, dtype=state_dtype(parameter))
        conv = parameter.new_zeros(batch_size, self.conv_size - 1, sum(self.channels)) if self.convolution else None
        return LayerState(matrix, conv)

    def read(self, x: Tensor, opens: Collection[nn.Module] = ()) -> Products:
        """What the layers that read x [B, T, D] make of it; of those in `opens` only the sigmoid is asked for."""
        names = ("q_proj", "k_proj", "v_proj", "w_proj", "b_proj", "a_proj", "f_proj", "gk_proj", "g_proj")
        return Products(x, (getattr(self, name, None) for name in names), opens)

    def decay_of_step(self, read: Products) -> LowRankDecay | None:  # noqa: ARG002 (for those that have one)
        """What a step's kernel makes the decay of, if it shall."""
        return None

    def project(
        self, read: Products, state: LayerState, padding: Padding | None, *, activate: bool = True, unit: bool = False
    ) -> Projected:
        """Project x to queries, keys and values, and convolve them.

        Args:
            read: the products of x [B, T, D].
            state: the layer's state, which holds the convolution's last inputs.
            padding: the padding among the tokens, or None.
            activate: whether SiLU follows the convolution.
            unit: whether q and k are brought to unit length.

        Returns:
            q and k [B, T, H, K], v [B, T, H * G, V], and the convolution's new last inputs, None without one.
        """
        x, found = read.x, None
        if self.convolution and self.fits_kernels and reaches_kernels(x):
            if steps(read, padding, state.conv):
                found = self._project_step(read, state, activate=activate, unit=unit)
            elif fuses(x, self.q_proj.weight, state.conv):
                found = self._project_by_kernels(read, state, padding, activate=activate, unit=unit)
            elif padding is None and self._learns(x, state.conv):
                found = self._project_and_learn(read, state, activate=activate, unit=unit)
        q, k, v, conv = found or self._project(read, state, padding, activate=activate, unit=unit)
        keys, values = (*x.shape[:2], self.num_heads, self.key_dim), (self.num_value_heads, self.value_dim)
        return q.reshape(keys), k.reshape(keys), v.reshape(*x.shape[:2], *values), conv

    def _project(
        self, read: Products, state: LayerState, padding: Padding | None, *, activate: bool, unit: bool
    ) -> Projected:
        """The same by PyTorch's operations, which specify it."""
        x, conv, layers = read.x, state.conv, (self.q_proj, self.k_proj, self.v_proj)
        # What is smaller is put together: the products of a step, or the weights in front of a run of tokens.
        alone = x.shape[1] == 1 or read.has(self.q_proj)
        if alone and conv is None and not unit:
            return read(self.q_proj), read(self.k_proj), read(self.v_proj), None
        if alone:
            qkv = torch.cat([read(layer) for layer in layers], dim=-1)
        else:
            qkv = wide_linear(x, torch.cat([layer.weight for layer in layers]))
        if conv is not None:
            taps = torch.cat([self.q_conv1d.weight, self.k_conv1d.weight, self.v_conv1d.weight])
            qkv, conv = convolve(qkv, taps, None, conv, padding, activate=activate)
        keys, _, values = self.channels
        qk, v = qkv.split_with_sizes((2 * keys, values), dim=-1)
        qk = qk.view(*x.shape[:2], 2 * self.num_heads, self.key_dim)
        q, k = (unit_length(qk) if unit else qk).chunk(2, dim=2)
        return q, k, v, conv

    def _project_step(self, read: Products, state: LayerState, *, activate: bool, unit: bool) -> Projected:
        assert state.conv is not None
        found, conv = project_step(
            read, [self.q_proj, self.k_proj, self.v_proj], [self.q_conv1d, self.k_conv1d, self.v_conv1d],
            state.conv, (self.key_dim, self.value_dim), self.decay_of_step(read), activate=activate, unit=unit,
        )  # fmt: skip
        return *found, conv

    def _project_by_kernels(
        self, read: Products, state: LayerState, padding: Padding | None, *, activate: bool, unit: bool
    ) -> Projected:
        from gdn2.ops.triton.mixing import convolve as by_kernel

        assert state.conv is not None
        dtype = read.x.dtype
        tail, conv = state.conv.to(dtype), torch.empty_like(state.conv, dtype=dtype)
        bounds, parts, first = None if padding is None else padding.bounds, [], 0
        for name, head in (("q", self.key_dim), ("k", self.key_dim), ("v", self.value_dim)):
            y, taps = read(getattr(self, f"{name}_proj")), getattr(self, f"{name}_conv1d").weight
            part = slice(first, first + y.shape[-1])
            first = part.stop
            parts.append(
                by_kernel(
                    y, taps, None, tail[..., part], conv[..., part], head,
                    activate=activate, unit_length=unit and name != "v", eps=L2_EPS, bounds=bounds,
                )
            )  # fmt: skip
        return parts[0], parts[1], parts[2], conv

    def _learns(self, x: Tensor, tail: Tensor | None) -> bool:
        return tail is not None and convolves(x, self.q_conv1d.weight, None, tail)

    def _project_and_learn(self, read: Products, state: LayerState, *, activate: bool, unit: bool) -> Projected:
        """The same with gradients."""
        assert state.conv is not None
        parts, inputs, tails = [], [], state.conv.split(self.channels, dim=-1)
        for name, head, tail in zip("qkv", (self.key_dim, self.key_dim, self.value_dim), tails, strict=True):
            y, taps = read(getattr(self, f"{name}_proj")), getattr(self, f"{name}_conv1d").weight
            inputs.append(last_inputs(y, tail, None))
            parts.append(
                learned_convolution(
                    y, taps, None, tail, head, activate=activate, unit_length=unit and name != "v", eps=L2_EPS
                )
            )
        return parts[0], parts[1], parts[2], torch.cat(inputs, dim=-1)

    def to_value_heads(self, x: Tensor) -> Tensor:
        """[B, T, H, K] repeated for the value heads of each group, [B, T, H * G, K]."""
        group = self.num_value_heads // self.num_heads
        return x if group == 1 else x.repeat_interleave(group, dim=2)

    def gate_and_project(self, o: Tensor, read: Products) -> Tensor:
        """Normalise o of all value heads [B, T, ...] a head, gate it by x, and bring it back to width D."""
        B, T, _ = read.x.shape
        o = o.reshape(B, T, self.num_value_heads, self.value_dim)
        if self.gate == "none":
            gated: Tensor | None = self.o_norm(o)
        else:
            gated = gate_step(self.o_norm, o, read, self.g_proj, self.gate)
        if gated is None:
            gated = self.o_norm.gated(o, read(self.g_proj).view(o.shape), self.gate)
        y: Tensor = self.o_proj(gated.flatten(2))
        return y


def run_operator(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor,
    b: Tensor,
    w: Tensor,
    state: Tensor | None,
    padding: Padding | None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`gated_delta_rule_2` from `state`, with padding as steps that change nothing: (o, the new state)."""
    if padding is not None:  # k = 0 and g = 0
        k = k.masked_fill(padding.is_pad[..., None], 0.0)
        g = g.masked_fill(padding.is_pad[..., None], 0.0)
    o, matrix = gated_delta_rule_2(q, k, v, g, b, w, scale=scale, initial_state=state, output_final_state=True)
    assert matrix is not None
    return o, matrix


def softplus_decay(f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """Compute g = -exp(A_log) softplus(f + dt_bias) in at least float32: a decay of 0.9999 has no bfloat16.

    Args:
        f: [B, T, C].
        A_log: [H], each for C / H channels.
        dt_bias: [C].
    """
    if fuses(f, A_log, dt_bias):
        from gdn2.ops.triton.mixing import decay

        return decay(f, A_log, dt_bias)
    if learns(f, A_log, dt_bias):
        return learned_decay(f, A_log, dt_bias)
    f = wide(f)
    rates = A_log.to(f.dtype).exp().repeat_interleave(f.shape[-1] // len(A_log))
    return -rates * softplus(f + dt_bias.to(f.dtype))


def scaled_sigmoid(x: Tensor, most: float) -> Tensor:
    """A gate in (0, most)."""
    return scaled(torch.sigmoid(x), most)


def scaled(gate: Tensor, most: float) -> Tensor:
    """A gate in (0, 1) as one in (0, most)."""
    return gate if most == 1 else most * gate


def state_dtype(parameter: Tensor) -> torch.dtype:
    """Of the matrix state and what is summed up along a text: float32, or float64 in a model of float64."""
    return torch.float64 if parameter.dtype == torch.float64 else torch.float32


def initial_dt_bias(size: int) -> Tensor:
    """Fresh biases with softplus(bias) log-uniform in [1e-3, 0.1] (Mamba, arXiv:2312.00752)."""
    dt = torch.empty(size).uniform_(math.log(1e-3), math.log(0.1)).exp().clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))


def initial_A_log(size: int, low: float = 1.0) -> Tensor:
    """Fresh rates: exp(A_log) ~ U(low, 16)."""
    return torch.empty(size).uniform_(low, 16).log()
