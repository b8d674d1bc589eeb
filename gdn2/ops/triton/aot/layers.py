"""The kernels of a layer's small steps and of attention, compiled without a GPU in the sizes that models have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gdn2.ops.triton.aot.binaries import Compiled, compile_kernel
from gdn2.ops.triton.attention import attend_kernel, join_kernel, rotate_kernel, tile_of
from gdn2.ops.triton.entropy import cross_entropy_kernel
from gdn2.ops.triton.launch import OPTIONS
from gdn2.ops.triton.mixing import convolution_kernel, decay_kernel
from gdn2.ops.triton.norm import rms_norm_kernel, swiglu_kernel
from gdn2.ops.triton.norm_gradients import rms_norm_gradients_kernel
from gdn2.ops.triton.rotation import turn_kernel
from gdn2.ops.triton.stepping import step_inputs_kernel, step_output_kernel
from gdn2.ops.triton.steps import (
    convolution_inner_gradients_kernel,
    convolution_input_gradients_kernel,
    decay_gradients_kernel,
    swiglu_gradients_kernel,
)
from gdn2.ops.triton.thin import thin_constants, thin_kernel, thin_tile

POINTERS = {"bf16": "*bf16", "tf32": "*fp16", "tf32x3": "*fp32"}
INT64 = {"p_first", "p_end", "p_before", "p_targets"}
FLOAT32 = {"p_A_log", "p_dt_bias", "p_g", "p_dg", "p_sums", "p_of_bias", "p_of_rate"}
FLOAT32 |= {"p_losses", "p_part", "p_sum", "p_cos", "p_sin"}
NORM = {"GROUPS": 1, "ADDS": False, "HAS_GATE": False, "SILU": False}
NORM_GRADIENTS = {"TILES": 8, "HAS_GATE": False, "SILU": False, "JOINS": False, "HALVES": False}
ABSENT = {"HAS_BIAS": {"p_bias", "p_biases"}, "BOUNDED": {"p_first", "p_end"}, "HAS_GATE": {"p_gate", "p_dgate"},
          "ADDS": {"p_added", "p_total"}, "JOINS": {"p_d_total"}, "HALVES": {"p_halved"}}  # fmt: skip
CONVOLUTION = {"W": 4, "HAS_BIAS": False, "ACTIVATE": True, "BOUNDED": False}
STEP_INPUTS = {"K": 128, "KP": 128, "V": 128, "VP": 128, "H": 16, "HV": 16, "W": 4, "WP": 4, "C": 2048, "HEAD": 128,
               "R": 128, "RP": 128, "BC": 32, "ACTIVATE": True, "UNIT": True, "num_warps": 4}  # fmt: skip
STEP_OUTPUT = {"V": 128, "VP": 128, "HV": 16, "R": 128, "RP": 128, "BC": 32, "HAS_BIAS": True, "SILU": True,
               "num_warps": 4}  # fmt: skip
SIZES: dict[str, tuple[Any, dict[str, Any]]] = {
    "rms_norm, width 2304": (rms_norm_kernel, {"D": 2304, "DP": 4096, "BN": 1, **NORM, "num_warps": 8}),
    "rms_norm of a sum, width 2304": (
        rms_norm_kernel,
        {"D": 2304, "DP": 4096, "BN": 1, **NORM, "ADDS": True, "num_warps": 8},
    ),
    "rms_norm, gated heads of 128": (
        rms_norm_kernel,
        {"D": 128, "DP": 128, "BN": 16, **NORM, "HAS_GATE": True, "num_warps": 4},
    ),
    "cross-entropy, 32000 tokens": (
        cross_entropy_kernel,
        {"V": 32000, "BV": 4096, "SCALES": False, "num_warps": 8},
    ),
    "swiglu": (swiglu_kernel, {"SIZE": 1024, "EVEN": True, "num_warps": 4}),
    "convolution, heads of 128 to unit length": (
        convolution_kernel,
        {"D": 128, "DP": 128, "BT": 16, **CONVOLUTION, "UNIT": True, "num_warps": 4},
    ),
    "convolution, padded, a step": (
        convolution_kernel,
        {"D": 128, "DP": 128, "BT": 1, **CONVOLUTION, "BOUNDED": True, "UNIT": False, "num_warps": 4},
    ),
    "attention to slots, a key a head of 128": (
        attend_kernel,
        {"D": 128, "DP": 128, "R": 1, "RP": 1},
    ),
    "attention to slots, 8 heads of 128 to a key": (
        attend_kernel,
        {"D": 128, "DP": 128, "R": 8, "RP": 16},
    ),
    "parts of slots joined, heads of 128": (join_kernel, {"D": 128, "DP": 128, "num_warps": 4}),
    "a token put into its slot, heads of 128": (rotate_kernel, {"D": 128, "DP": 128, "HALF": 64, "num_warps": 4}),
    "rotation, heads of 128": (
        turn_kernel,
        {"D": 128, "HALF": 64, "HP": 64, "BH": 8, "RP": 0, "BACK": False, "num_warps": 2},
    ),
    "decay, 2048 channels": (decay_kernel, {"C": 2048, "HEAD": 128, "CP": 1024, "BN": 2, "num_warps": 4}),
    "rms_norm's gradients, width 2304": (
        rms_norm_gradients_kernel,
        {"D": 2304, "DP": 4096, "BN": 2, **NORM_GRADIENTS, "num_warps": 4},
    ),
    "rms_norm's gradients behind a sum, width 2304": (
        rms_norm_gradients_kernel,
        {"D": 2304, "DP": 4096, "BN": 2, **NORM_GRADIENTS, "JOINS": True, "HALVES": True, "num_warps": 4},
    ),
    "rms_norm's gradients, gated heads of 128": (
        rms_norm_gradients_kernel,
        {"D": 128, "DP": 128, "BN": 16, **NORM_GRADIENTS, "HAS_GATE": True, "SILU": True, "num_warps": 2},
    ),
    "swiglu's gradients": (swiglu_gradients_kernel, {"SIZE": 1024, "EVEN": True, "num_warps": 4}),
    "decay's gradients, 2048 channels": (
        decay_gradients_kernel,
        {"C": 2048, "HEAD": 128, "CP": 1024, "BN": 2, "TILES": 8, "num_warps": 4},
    ),
    "convolution's gradients, heads of 128": (
        convolution_inner_gradients_kernel,
        {
            "D": 128,
            "DP": 128,
            "W": 4,
            "BT": 4,
            "TILES": 16,
            "HAS_BIAS": False,
            "ACTIVATE": True,
            "UNIT": True,
            "num_warps": 1,
        },
    ),
    "convolution's gradients of inputs": (
        convolution_input_gradients_kernel,
        {"D": 128, "DP": 128, "W": 4, "BT": 16, "num_warps": 4},
    ),
    "a step's convolutions and low-rank decay, 16 heads of 128": (step_inputs_kernel, STEP_INPUTS),
    "a step's norm and low-rank gate, heads of 128": (step_output_kernel, STEP_OUTPUT),
    "thin products, seven matrices of 2304 columns, two with sigmoids": (
        thin_kernel,
        {"K": 2304, "rows": 1, "sizes": (2048,) * 5 + (128,) * 2, "opens": (0, 0, 0, 1, 1, 0, 0), "paired": False},
    ),
    "thin products, 32 rows of 6208": (
        thin_kernel,
        {"K": 6208, "rows": 32, "sizes": (2304,), "opens": (0,), "paired": False},
    ),
    "thin products, swiglu, 32 rows": (
        thin_kernel,
        {"K": 2304, "rows": 32, "sizes": (6208,), "opens": (0,), "paired": True},
    ),
}


@dataclass(frozen=True)
class LayerSource:
    """One of SIZES for an architecture and a dtype of its inputs.

    Attributes:
        name: a key of SIZES.
        arch: compute capability x 10.
        precision: a key of POINTERS.
    """

    name: str
    arch: int
    precision: str


def compile_layer_source(source: LayerSource) -> Compiled:
    """Compile what a call on contiguous, aligned tensors would."""
    kernel, constants = SIZES[source.name]
    fn = kernel.fn if not hasattr(kernel, "arg_names") else kernel
    size = 4 if source.precision == "tf32x3" else 2
    if kernel is thin_kernel:
        tile = thin_tile(size, paired=constants["paired"])
        constants = thin_constants(**constants, tile=tile)[0] | {"HAS_BIAS": False, "ALIGNED": True}
    if "BS" in fn.arg_names:
        constants = constants | tile_of(constants["DP"], size, constants["R"])
    absent = {name for flag, names in ABSENT.items() if not constants.get(flag, True) for name in names}
    absent &= set(fn.arg_names)
    options = {name: constants[name] for name in OPTIONS if name in constants}
    values = {name: value for name, value in constants.items() if name not in OPTIONS} | dict.fromkeys(absent)
    types: dict[str, Any] = {}
    wide = {parameter.name: parameter.annotation_type for parameter in fn.params}
    for argument in fn.arg_names:
        if argument in values:
            types[argument] = "constexpr"
        elif argument in INT64:
            types[argument] = "*i64"
        elif argument == "p_ws":
            types[argument] = (POINTERS[source.precision],) * (len(constants["SIZES"]) + constants["PAIRED"])
        elif argument.startswith("p_"):
            types[argument] = "*fp32" if argument in FLOAT32 else POINTERS[source.precision]
        else:
            types[argument] = "fp32" if argument in ("eps", "scale", "factor") else wide.get(argument) or "i32"
    return compile_kernel(source.name, fn, types, values, source.arch, options)
