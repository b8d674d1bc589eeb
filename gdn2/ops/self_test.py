"""Is the operator right on this machine? Every path of its backend is compared with the recurrence in float64.

Compilers have silently made wrong kernels, for one tile size on one GPU, from a source that was right on others. So a
run tests the device that it is about to trust, at the head sizes and in the dtype of its checkpoint.

Letters: B rows, T tokens, H heads, K key dim (d_k), V value dim (d_v). Steps are the inputs q, k, v, g, b and w,
[B, T, H, d] each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gdn2.ops import gated_delta_rule_2, resolve_backend
from gdn2.ops.backends import BACKEND_VARIABLE, triton_is_installed

LENGTH, HEADS, SEED = 150, 2, 0  # tokens: more than two chunks of 64, the last one short
MILD, STRONG = slice(0, 2), slice(2, 4)  # rows by decay: strong decay hides leaks and takes other paths
SHORT_LENGTHS = (1, 8)  # decode, and an input that the Triton kernels read token by token
PIECES = (64, 1, 85)
PACKED = (1, 70, 0, 129)

# Relative L2 error by the dtype of q, k, v, b and w. In the kernels, products of bfloat16 inputs are in bfloat16, which
# gives 4e-3; those of float16 inputs are in tf32; those of float32 inputs are three tf32 products, which gives 4e-7. A
# wrong kernel is off by 1e-1. Packed inputs and those in pieces have the same tolerance, since their chunks begin at
# other tokens and round differently.
TOLERANCE = {torch.bfloat16: 8e-3, torch.float16: 2e-3, torch.float32: 5e-6, torch.float64: 1e-10}

Output = tuple[Tensor, Tensor]  # o [B, T, H, V] and the last state [N, H, K, V]


class SelfTestError(RuntimeError):
    """The operator is wrong on this machine, or does not run; the message has the figures and the way out."""


@dataclass(frozen=True)
class Comparison:
    """How far one path of the operator is from what it should give.

    Attributes:
        name: of the path.
        d_k: the key dim.
        d_v: the value dim.
        error: the relative L2 error of the outputs or of the last state, whichever is larger.
        tolerance: the largest error that passes.
    """

    name: str
    d_k: int
    d_v: int
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within its tolerance; NaN is not."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        figures = f"error {self.error:.1e}, at most {self.tolerance:.0e}"
        return f"{self.name} (d_k {self.d_k}, d_v {self.d_v}): {figures}: {'ok' if self.passed else 'WRONG'}"


@dataclass(frozen=True)
class SelfTest:
    """What was compared, where, and how far it was off.

    Attributes:
        backend: the backend that long inputs take.
        device: where the operator ran.
        dtype: of q, k, v, b and w.
        heads: the pairs (d_k, d_v) that were tested.
        comparisons: one for each path and pair.
        seconds: how long the test took, with the compilation of kernels that were used for the first time.
    """

    backend: str
    device: torch.device
    dtype: torch.dtype
    heads: tuple[tuple[int, int], ...]
    comparisons: tuple[Comparison, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every comparison passed."""
        return all(comparison.passed for comparison in self.comparisons)

    def report(self) -> str:
        """The comparisons, one on each line."""
        return "\n".join(map(str, self.comparisons))

    def as_dict(self) -> dict[str, Any]:
        """The result for JSON: errors with three digits, None for one that is not a finite number."""
        comparisons = []
        for item in self.comparisons:
            error = float(f"{item.error:.2e}") if abs(item.error) < float("inf") else None
            sizes = {"d_k": item.d_k, "d_v": item.d_v}
            comparisons.append({"name": item.name, **sizes, "error": error, "tolerance": item.tolerance})
        return {
            "passed": self.passed,
            "backend": self.backend,
            "device": str(self.device),
            "dtype": _name(self.dtype),
            "seconds": round(self.seconds, 3),
            "comparisons": comparisons,
        }

    def require(self) -> None:
        """Raise an error unless every comparison passed.

        Raises:
            SelfTestError: the operator is wrong on this machine.
        """
        if not self.passed:
            wrong = "; ".join(str(item) for item in self.comparisons if not item.passed)
            where = _where(self.backend, self.device, self.dtype)
            raise SelfTestError(f"the operator is wrong on this machine. {wrong}. {where}. {_way_out(self.backend)}")


def self_test(
    device: torch.device | str, *, heads: Sequence[tuple[int, int]], dtype: torch.dtype, backend: str = "auto"
) -> SelfTest:
    """Compare every path of the operator on `device` with the recurrence in float64, on inputs of a fixed seed.

    The reference and all inputs are made on the CPU, so that they are the same everywhere and no device vouches for
    itself. The test takes 0.1 s with heads of 128, and longer where kernels are compiled for the first time.

    Args:
        device: where the operator runs.
        heads: the pairs (d_k, d_v) of a model's heads; each distinct one is tested.
        dtype: of q, k, v, b and w, as the model runs; g and states are float32, or float64 if it is.
        backend: as in `gated_delta_rule_2`.

    Raises:
        ValueError: there are no heads, the dtype or backend is unknown, or the backend cannot run on the device.
        SelfTestError: the operator could not be run. For a wrong result only `SelfTest.require` raises.
    """
    if dtype not in TOLERANCE:
        raise ValueError(f"dtype must be one of {', '.join(map(_name, TOLERANCE))}, got {_name(dtype)}")
    started, device, sizes = time.perf_counter(), torch.device(device), tuple(dict.fromkeys(heads))
    if not sizes:
        raise ValueError("heads must have at least one pair (d_k, d_v)")
    chosen = " and ".join(dict.fromkeys(resolve_backend(backend, LENGTH, device, dtype, K) for K, _ in sizes))
    comparisons = []
    try:
        with torch.no_grad():
            for K, V in sizes:
                for name, found, expected in _runs(K, V, device, dtype, backend):
                    comparisons.append(Comparison(name, K, V, _error(found, expected), TOLERANCE[dtype]))
    except Exception as error:
        cause = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
        where = _where(chosen, device, dtype)
        raise SelfTestError(
            f"the operator does not run on this machine. {cause}. {where}. {_way_out(chosen)}"
        ) from error
    return SelfTest(chosen, device, dtype, sizes, tuple(comparisons), time.perf_counter() - started)


def _runs(
    K: int, V: int, device: torch.device, dtype: torch.dtype, backend: str
) -> Iterator[tuple[str, Output, Output]]:
    """Of each comparison its name, what the backend gives and what it should give."""
    run = partial(_run, backend=backend)
    steps, state = _inputs(K, V, dtype)
    outputs, states = _reference(steps, state)
    steps, state = [x.to(device) for x in steps], state.to(device)
    mild, strong = ([x[rows] for x in steps] for rows in (MILD, STRONG))

    whole = run(mild, state[MILD])
    yield "chunkwise, mild decay", whole, (outputs[MILD], states[LENGTH][MILD])
    yield "chunkwise, strong decay", run(strong, state[STRONG]), (outputs[STRONG], states[LENGTH][STRONG])
    for T in SHORT_LENGTHS:
        yield f"recurrent, T = {T}", run([x[:, :T] for x in steps], state), (outputs[:, :T], states[T])

    row = [x.flatten(0, 1)[None, : sum(PACKED)] for x in mild]
    offsets = torch.tensor([0, *PACKED]).cumsum(0)
    alone = [
        run([x[:, start:end] for x in row], state[i : i + 1])
        for i, (start, end) in enumerate(pairwise(offsets.tolist()))
    ]
    expected = torch.cat([o for o, _ in alone], 1), torch.cat([last for _, last in alone])
    yield "packed", run(row, state, offsets), expected

    pieces, last = [], state[MILD]
    for piece in zip(*(x.split(PIECES, 1) for x in mild), strict=True):
        o, last = run(piece, last)
        pieces.append(o)
    yield "segments", (torch.cat(pieces, 1), last), whole


def _run(steps: Sequence[Tensor], state: Tensor, offsets: Tensor | None = None, *, backend: str) -> Output:
    q, k, v, g, b, w = steps
    o, last = gated_delta_rule_2(
        q, k, v, g, b, w, initial_state=state, output_final_state=True, cu_seqlens=offsets, backend=backend
    )
    assert last is not None
    return o, last


def _inputs(K: int, V: int, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Four rows of steps, two with mild and two with strong decay, and their initial states, on the CPU."""
    B, T, H, rng = 4, LENGTH, HEADS, torch.Generator().manual_seed(SEED)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    q, k = (torch.nn.functional.normalize(normal(B, T, H, K), dim=-1) for _ in range(2))
    v, w = normal(B, T, H, V), normal(B, T, H, V).sigmoid()
    b, strength = normal(B, T, H, K).sigmoid(), torch.rand(B, T, H, K, generator=rng, dtype=torch.float64)
    strongest = torch.empty(B, 1, 1, 1, dtype=torch.float64)
    strongest[MILD], strongest[STRONG] = -0.1, -20.0
    g = (strength * strongest).to(wide)
    q, k, v, b, w = (x.to(dtype) for x in (q, k, v, b, w))
    return [q, k, v, g, b, w], normal(B, H, K, V).to(wide)


def _reference(steps: Sequence[Tensor], state: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
    """The recurrence in float64: all outputs, and the states by the number of tokens read: SHORT_LENGTHS and LENGTH."""
    outputs, states, state, start = [], {}, state.double(), 0
    for end in (*SHORT_LENGTHS, LENGTH):
        o, state = _run([x[:, start:end].double() for x in steps], state, backend="naive")
        outputs.append(o)
        states[end], start = state, end
    return torch.cat(outputs, 1), states


def _error(found: Output, expected: Output) -> float:
    """The relative L2 error of the outputs or the state, whichever is larger; NaN if either has one."""
    errors = []
    for ours, theirs in zip(found, expected, strict=True):
        exact = theirs.cpu().double()
        errors.append((ours.cpu().double() - exact).norm() / exact.norm())
    return torch.stack(errors).max().item()


def _where(backend: str, device: torch.device, dtype: torch.dtype) -> str:
    gpu = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" and torch.cuda.is_available() else ""
    triton_version = "not installed"
    if triton_is_installed():
        import triton

        triton_version = triton.__version__
    return f"Backend {backend} on {device}{gpu} in {_name(dtype)}, torch {torch.__version__}, triton {triton_version}"


def _way_out(backend: str) -> str:
    if "triton" in backend:
        return f"{BACKEND_VARIABLE}=chunked runs without the Triton kernels"
    return f"{BACKEND_VARIABLE}=naive runs token by token, slowly"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
