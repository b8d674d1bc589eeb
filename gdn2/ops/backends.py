"""Which implementation of the operator runs: by argument, else by environment, else by device."""

from __future__ import annotations

import logging
import os
from functools import lru_cache

import torch

NAMES = ("naive", "chunked", "triton")
BACKEND_VARIABLE = "GDN2_BACKEND"
SHORT_INPUT = 4  # tokens: below this a loop beats building a chunk in PyTorch (decode is a loop of one)
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
    """The backend that `backend` means for an input: an argument wins over GDN2_BACKEND, that over "auto".

    "auto" is "triton" on CUDA devices, for the dtypes and key sizes that its kernels take, and PyTorch elsewhere:
    "naive" for a few tokens, "chunked" for more.

    Raises:
        ValueError: an unknown backend, or "triton" where it cannot run.
    """
    if backend == "auto":
        backend = os.environ.get(BACKEND_VARIABLE, "auto")
    if backend not in ("auto", *NAMES):
        raise ValueError(f"backend must be one of auto, {', '.join(NAMES)}, got {backend!r}")
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
    return "naive" if num_tokens <= SHORT_INPUT else "chunked"


@lru_cache(maxsize=1)
def triton_is_installed() -> bool:
    """Whether `import triton` works."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache(maxsize=64)
def _say_once(what: str, device: torch.device | str) -> None:
    log.info("gated_delta_rule_2 on %s: %s", device, what)
