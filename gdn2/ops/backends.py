"""Which implementation of the operator runs: the argument decides, else the environment, else the device."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

import torch

from basis.names import must_be_one_of

NAMES = ("naive", "chunked", "triton")
BACKEND_VARIABLE = "GDN2_BACKEND"
SHORT_INPUT = 4  # up to so many tokens a loop is faster than a chunk in PyTorch
MAX_TRITON_KEY_DIM = 256
TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)

log = logging.getLogger("gdn2")


def resolve_backend(
    backend: str,
    num_tokens: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    key_dim: int = 128,
) -> str:
    """The name of the backend that runs for an input.

    "auto" means the environment variable GDN2_BACKEND if that is set. Otherwise it is "triton" on CUDA devices, for the
    dtypes and key dims that its kernels take, and PyTorch elsewhere: "single" for one token, which nobody can ask for,
    "naive" for a few tokens, "chunked" for more.

    Args:
        backend: "auto" or one of NAMES.
        num_tokens: the length of the input.
        device: where the input is.
        dtype: of states and sums: float32, or float64 if an input is.
        key_dim: d_k.

    Raises:
        ValueError: the backend is unknown, or it is "triton" and cannot run on the device.
    """
    if backend == "auto":
        backend = os.environ.get(BACKEND_VARIABLE, "auto")
    if backend not in ("auto", *NAMES):
        raise ValueError(f"backend {must_be_one_of(('auto', *NAMES), backend)}")
    on_cuda = (device if isinstance(device, torch.device) else torch.device(device)).type == "cuda"
    if backend == "triton" and not on_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"the triton backend needs tensors on a CUDA device, got {device}; with TRITON_INTERPRET=1 set before "
            "gdn2 is imported its kernels run on a CPU, slowly"
        )
    if backend != "auto":
        return backend
    if on_cuda:
        if not triton_is_installed():
            _say_once("PyTorch (chunked): the package triton is not installed", device)
        elif dtype in TRITON_DTYPES and key_dim <= MAX_TRITON_KEY_DIM:
            _say_once("Triton kernels", device)
            return "triton"
        else:
            _say_once(f"PyTorch (chunked): no kernels for {dtype} with d_k = {key_dim}", device)
    if num_tokens == 1:
        return "single"
    return "naive" if num_tokens <= SHORT_INPUT else "chunked"


@lru_cache(maxsize=1)
def triton_is_installed() -> bool:
    """Whether the package triton can be imported."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache(maxsize=64)
def _say_once(what: str, device: torch.device | str) -> None:
    log.info("gated_delta_rule_2 on %s: %s", device, what)
