"""How many tokens and rows fit into memory, and what to do when that was wrong.

It is an estimate from the model's sizes and from what is free.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gdn2 import GDN2ForCausalLM
from gdn2.state import SLOTTED
from harness.engine import resident
from harness.engine.units import Limits
from harness.errors import UserError

SHARE_OF_TOKENS, SHARE_OF_STATES = 0.25, 0.25  # of free memory
# With attention: of the rows that generate; as many again, at most, have been read and wait for a place. A step has to
# read all of it, so that more rows save little.
SHARE_OF_SLOTS = 0.1
LEAST_TOKENS, MOST_TOKENS = 1024, 65536
MOST_TOKENS_ON_CPU = 2048  # 128 choices, gdn2-tiny, one thread: 1k/2k/4k -> 1.39/1.36/1.52 CPU seconds (2026-11)
MOST_ROWS, MOST_ROWS_ON_CPU = 512, 128
UNKNOWN = 4 << 30  # bytes, where the system does not say


def limits_of(
    model: GDN2ForCausalLM,
    *,
    batch_size: int | None = None,
    tokens: int | None = None,
    device: torch.device | None = None,
) -> Limits:
    """Tokens and rows that a step of a model may have.

    The tokens are a power of two, so that a little more or less free memory does not change the batches.

    Args:
        model: its sizes decide what a token and a row cost.
        batch_size: the most rows, if the user says so, whatever their states take.
        tokens: the most tokens, if the user says so.
        device: where it will run; its own device by default.
    """
    device = device or model.device
    cpu, free = device.type != "cuda", free_bytes(device)
    if tokens is None:
        fitting = int(SHARE_OF_TOKENS * free / bytes_per_token(model))
        most = MOST_TOKENS_ON_CPU if cpu else MOST_TOKENS
        tokens = 1 << max(LEAST_TOKENS, min(fitting, most)).bit_length() - 1
    if batch_size is not None:
        return Limits(tokens=tokens, rows=batch_size)
    empty = model.model.empty_state(1)
    slotted = any(name in SLOTTED for layer in empty.layers for name in layer.tensors())
    room = (SHARE_OF_SLOTS if slotted else SHARE_OF_STATES) * free
    rows = max(1, min(int(room / empty.num_bytes), MOST_ROWS_ON_CPU if cpu else MOST_ROWS))
    return Limits(tokens=tokens, rows=rows, slots=int(room / empty.num_bytes_a_token) if empty.grows else None)


def bytes_per_token(model: GDN2ForCausalLM) -> int:
    """Bytes of activations of one token at the widest place of a block, with what is alive beside it.

    That is about twelve tensors of the keys' or values' width, eight of the model's, three of the MLP's, in float32.
    """
    config = model.config
    heads = (config.num_heads or 1) * config.head_dim + (config.num_value_heads or 1) * (config.value_head_dim or 1)
    return int(4 * (8 * config.hidden_size + 12 * heads + 3 * config.mlp_channels))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device; on Linux what the kernel calls available, within the process's limit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return UNKNOWN
    sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return min(sizes.get("MemAvailable", UNKNOWN), *_cgroup_room())


def _cgroup_room() -> list[int]:
    """What a container may still take, if it is limited."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return [max(int(limit) - int(used), 0)]
    except (OSError, ValueError):
        return [1 << 62]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def out_of_memory(device: torch.device, smallest: str) -> UserError:
    """The error for when nothing smaller is left to try."""
    return UserError(
        f"out of memory on {device} with {smallest}; free memory there, use a smaller --dtype, or another --device. "
        "What is finished is kept"
    )


def chosen_device(name: str) -> str:
    """The device that a name means: `auto` is the GPU if there is one, any other name is itself."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def explained(limits: Limits) -> Iterator[None]:
    """Turn an allocation that fails where no smaller step is tried into an error with the way out.

    Raises:
        UserError: memory did not suffice.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory with {limits.rows} rows of {limits.tokens} tokens a step; give a smaller --batch-size (say "
            f"{max(1, limits.rows // 2)}) or --batch-tokens: scores do not depend on them. What is finished is kept"
        ) from error


def release() -> None:
    """Give back what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class PeakMemory:
    """The most memory since `start`, in MiB (2**20 bytes): of the GPU's allocator, or of the process on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def start(self) -> None:
        """Begin to measure; what was used before does not count."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        resident.reset()

    def mib(self) -> float | None:
        """None where the system does not say."""
        if self.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        peak = resident.peak_bytes_since_reset()
        return None if peak is None else round(peak / 2**20, 1)
