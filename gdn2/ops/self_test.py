"""Is the operator right on this machine? Every path of its backend against the recurrence in float64.

Compilers have made wrong kernels in silence, for one tile size on one GPU, where the same source was right on others.
So a run asks the device that it is about to trust, at the head sizes and in the dtype of its checkpoint.

Letters: B rows, T tokens, H heads, K key dim (d_k), V value dim (d_v). Steps are q, k, v, g, b, w, [B, T, H, d] each.
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
MILD, STRONG = slice(0, 2), slice(2, 4)  # rows by decay: with strong decay a leak does not show, sums go other ways
SHORT_LENGTHS = (1, 8)  # decode, and what the Triton kernels still read token by token
PIECES = (64, 1, 85)
PACKED = (1, 70, 0, 129)

# Relative L2 error by dtype of q, k, v, b and w. Products of bfloat16 inputs are bfloat16 in the kernels and give 4e-3,
# of float16 tf32; float32 stays float32, as three tf32 products in the kernels (4e-7). A wrong kernel is off by 1e-1.
# Packed and cut inputs have the same tolerance, since their chunks begin elsewhere and round differently.
TOLERANCE = {torch.bfloat16: 8e-3, torch.float16: 2e-3, torch.float32: 5e-6, torch.float64: 1e-10}

Output = tuple[Tensor, Tensor]  # o [B, T, H, V] and the last state [N, H, K, V]


class SelfTestError(RuntimeError):
    """The operator is wrong, or does not run, on this machine; the message has the figures and the way out."""


@dataclass(frozen=True)
class Comparison:
    """One path of the operator: the worse relative L2 error of its outputs and its last state."""

    name: str
    d_k: int
    d_v: int
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # NaN is not

    def __str__(self) -> str:
        figures = f"error {self.error:.1e}, at most {self.tolerance:.0e}"
        return f"{self.name} (d_k {self.d_k}, d_v {self.d_v}): {figures}: {'ok' if self.passed else 'WRONG'}"


@dataclass(frozen=True)
class SelfTest:
    """What was compared, where, and how far it was off."""

    backend: str
    """The one that long inputs take."""
    device: torch.device
    dtype: torch.dtype
    heads: tuple[tuple[int, int], ...]
    comparisons: tuple[Comparison, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(comparison.passed for comparison in self.comparisons)

    def report(self) -> str:
        """One line a comparison."""
        return "\n".join(map(str, self.comparisons))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: errors with three digits, None where one is not a finite number."""
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
        """Nothing, if it passed.

        Raises:
            SelfTestError: it did not.
        """
        if not self.passed:
            wrong = "; ".join(str(item) for item in self.comparisons if not item.passed)
            where = _where(self.backend, self.device, self.dtype)
            raise SelfTestError(f"the operator is wrong on this machine. {wrong}. {where}. {_way_out(self.backend)}")


def self_test(
    device: torch.device | str, *, heads: Sequence[tuple[int, int]], dtype: torch.dtype, backend: str = "auto"
) -> SelfTest:
    """Compare every path of the operator on `device` with the recurrence in float64, on inputs of a fixed seed.

    The reference and all inputs are made on the CPU: the same everywhere, and no device vouches for itself. It takes
    0.1 s with heads of 128; where kernels are used for the first time, their compilation comes on top and is part of
    `seconds`.

    Args:
        heads: the pairs (d_k, d_v) of a model's heads; each distinct one is tested.
        dtype: of q, k, v, b and w, as the model runs; g and states are float32, or float64 if it is.
        backend: as of `gated_delta_rule_2`.

    Raises:
        ValueError: no heads, an unknown dtype or backend, or a backend that cannot run on the device.
        SelfTestError: the operator could not be run. A wrong result does not raise, `SelfTest.require` does.
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
    """(name, what the backend gives, what it should give) of each comparison."""
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
    """Four rows of steps, two with each decay, and their first states, on the CPU."""
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
    """The recurrence in float64: all outputs, and the states after each of SHORT_LENGTHS and at the end."""
    outputs, states, state, start = [], {}, state.double(), 0
    for end in (*SHORT_LENGTHS, LENGTH):
        o, state = _run([x[:, start:end].double() for x in steps], state, backend="naive")
        outputs.append(o)
        states[end], start = state, end
    return torch.cat(outputs, 1), states


def _error(found: Output, expected: Output) -> float:
    """The larger relative L2 error of outputs and state; NaN if there is one in either."""
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
