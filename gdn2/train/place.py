"""Where a process trains: its device, and which of several processes it is.

Several processes are started by torchrun, one for each GPU; it says by environment variables which is which.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed

from basis.names import or_near
from gdn2.train.fields import RecipeError
from gdn2.train.recipe import Recipe

# Multiplications and additions a second of dense products, as the makers state them, by a part of the device's name.
PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    ("B200", {"bfloat16": 2250e12}),
    ("H200", {"bfloat16": 989e12, "float32": 67e12}),
    ("H100 PCIe", {"bfloat16": 756e12, "float32": 51e12}),
    ("H100", {"bfloat16": 989e12, "float32": 67e12}),
    ("A100", {"bfloat16": 312e12, "float32": 19.5e12}),
)
LOST = ("closed by peer", "reset by peer", "NCCL", "gloo", "TCPStore", "heartbeat")


@dataclass(frozen=True)
class Place:
    """A process of a training.

    Attributes:
        device: that it computes on.
        rank: its number, from 0; the first one logs, saves and exports.
        processes: how many there are.
    """

    device: torch.device = field(default=torch.device("cpu"))
    rank: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def is_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.device.type == "cuda"

    def total(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all processes; it may be changed."""
        if self.processes > 1:
            distributed.all_reduce(x)
        return x

    def first_says(self, answer: bool) -> bool:
        """The first process's answer, which all then give."""
        if self.processes > 1:
            told = torch.tensor(int(answer), device=self.device)
            distributed.broadcast(told, 0)
            return bool(told)
        return answer

    def agree(self, value: object, otherwise: str) -> None:
        """See that all processes have the same value.

        Raises:
            RecipeError: they have not; its message is `otherwise`, behind the number of a process that differs.
        """
        if self.processes == 1:
            return
        values: list[object] = [None] * self.processes
        distributed.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise RecipeError(f"process {rank} of {self.processes}: {otherwise}")

    def peak_memory(self) -> float | None:
        """The most memory of the GPU that tensors have had, in GiB; None on a CPU."""
        return round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2) if self.is_gpu else None

    def peak_rate(self, precision: str) -> float | None:
        """Floating-point operations a second of all processes at best; None for a device that is not known."""
        name = torch.cuda.get_device_name(self.device) if self.is_gpu else ""
        found = next((rates.get(precision) for part, rates in PEAKS if part in name), None)
        return None if found is None else found * self.processes


@contextlib.contextmanager
def joined(recipe: Recipe, device: str | None = None) -> Iterator[Place]:
    """Take a place among the processes that torchrun has started; alone if it has not.

    Args:
        recipe: its `compute` says which device, and in which precision.
        device: instead of the recipe's.

    Raises:
        RecipeError: no such device, or one without bfloat16; numbers of processes that torchrun would not give; rows
            that cannot be cut evenly; or another process was lost on the way.
    """
    rank, count, local = _numbers()
    place = Place(choose_device(recipe, device or recipe.compute.device, local, count), rank, count)
    _check(recipe, place)
    if place.is_gpu:
        torch.cuda.set_device(place.device)
    if count == 1:
        yield place
        return
    try:
        distributed.init_process_group("nccl" if place.is_gpu else "gloo")
        yield place
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not any(word in str(error) for word in LOST):
            raise
        raise RecipeError(
            f"process {rank} of {count} has lost another one ({' '.join(str(error).split())[:120]}); the same command "
            "goes on from the last save"
        ) from error
    distributed.destroy_process_group()


def choose_device(recipe: Recipe, asked: str, local: int = 0, processes: int = 1) -> torch.device:
    """The device that a name means.

    Args:
        recipe: for messages.
        asked: "auto", "cpu", "cuda", or "cuda:N".
        local: the number of this process on its machine.
        processes: how many there are.

    Raises:
        RecipeError: there is no such device.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "cpu" or (asked == "auto" and not gpus):
        return torch.device("cpu")
    kind, _, digits = asked.partition(":")
    if kind not in ("auto", "cuda") or (kind == "auto" and digits) or (digits and not digits.isdecimal()):
        near = or_near(kind, ("auto", "cpu", "cuda"))
        raise recipe.error(
            f"compute.device: no device is called {asked[:60]!r}; choose auto, cpu, cuda or cuda:N{near}"
        )
    if ":" in asked and processes > 1:
        raise recipe.error(f"compute.device: {asked} is one device for {processes} processes; cuda is one for each")
    number = int(digits) if digits else local
    if number >= gpus:
        there = "no GPU that PyTorch can use" if not gpus else f"{gpus} GPU{'s' if gpus > 1 else ''}"
        raise recipe.error(f"compute.device: there is no cuda:{number}, this machine has {there}; choose auto or cpu")
    return torch.device("cuda", number)


def _check(recipe: Recipe, place: Place) -> None:
    compute = recipe.compute
    if compute.precision == "bfloat16" and place.is_gpu and torch.cuda.get_device_capability(place.device) < (8, 0):
        name = torch.cuda.get_device_name(place.device)
        raise recipe.error(f"compute.precision: {name} has no bfloat16; choose float32, or another device")
    if compute.residual == "bfloat16" and compute.precision == "float32":
        raise recipe.error("compute.residual: bfloat16 needs compute.precision: bfloat16; add that, or remove it")
    if compute.sharded and place.processes == 1:
        raise recipe.error("compute.sharded: there is one process only; start several with torchrun, or remove it")
    if compute.sharded and recipe.optimizer.name == "muon":
        raise recipe.error("compute.sharded: muon needs whole matrices; choose optimizer.name: adamw, or remove it")
    parts = place.processes * compute.accumulation
    for index, stage in enumerate(recipe.stages):
        if stage.rows % parts:
            raise recipe.error(
                f"stages[{index}].rows: {stage.rows} rows cannot be cut evenly into {place.processes} "
                f"process{'es' if place.processes > 1 else ''} x {compute.accumulation} (compute.accumulation); choose "
                f"a multiple of {parts}"
            )


def _numbers() -> tuple[int, int, int]:
    """Which process this is, of how many, and which of its machine, as torchrun's environment variables say.

    Raises:
        RecipeError: they are not as torchrun sets them, or it is not said where the others are met.
    """
    rank, count, local = (_number(name, usual) for name, usual in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    if rank >= count:
        raise RecipeError(
            f"the environment variables say process RANK={rank} of WORLD_SIZE={count}; {count} have the numbers from 0 "
            f"to {count - 1}, as torchrun sets them; for one process, unset both"
            if count
            else "the environment variable WORLD_SIZE must be at least 1, as torchrun sets it; unset it for one process"
        )
    if count > 1:
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            if not os.environ.get(name, "").strip():
                raise RecipeError(
                    f"the environment variable WORLD_SIZE says {count} processes, and {name} is not set, where they "
                    "meet; start them with torchrun, or unset WORLD_SIZE and RANK for one process"
                )
        _number("MASTER_PORT", 0)
    return rank, count, local


def _number(name: str, usual: int) -> int:
    text = os.environ.get(name, str(usual))
    if not text.isdecimal():
        raise RecipeError(f"the environment variable {name} must be a whole number, as torchrun sets it, got {text!r}")
    return int(text)
