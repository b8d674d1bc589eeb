"""A model over several processes: each has all of it and gradients are added up, or each has a part of every tensor.

PyTorch does both: DistributedDataParallel and FSDP2 (`fully_shard`). A tensor that is cut over processes is a DTensor.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import torch
from torch import Tensor, distributed, nn

from gdn2.model import GDN2Block
from gdn2.train.objective import Objective
from gdn2.train.place import Place

BUCKET_MB = 100  # of gradients that are summed up at once; PyTorch takes 25, which a large model has over 200 of
SHORT = 0.999  # below that share of the longest, PyTorch's factor is 1 whatever its rounding


def shared(objective: Objective, place: Place, *, sharded: bool) -> nn.Module:
    """What calls the objective on one process of several; alone, the objective itself.

    Args:
        objective: on the place's device, the same in every process; its tensors are cut in place if `sharded`.
        place: the process.
        sharded: whether each process has a part of every tensor only.
    """
    if place.processes == 1:
        return objective
    for harmless in ("FSDP2-wrapped module .* returned a view", "Grad strides do not match bucket view strides"):
        warnings.filterwarnings("ignore", message=harmless)
    if sharded:
        from torch.distributed.fsdp import fully_shard

        objective.keep_empty_state()
        for module in objective.modules():
            if isinstance(module, GDN2Block):
                fully_shard(module)
        fully_shard(objective)
        return objective
    idle = "experts" in (objective.model.config.mlps or ())  # those that no token of a step has chosen
    copied = nn.parallel.DistributedDataParallel(
        objective, gradient_as_bucket_view=True, find_unused_parameters=idle, bucket_cap_mb=BUCKET_MB
    )
    copied.register_comm_hook(None, lambda _, bucket: _summed(bucket))  # PyTorch wants evaluated annotations, or none
    return copied


def _summed(bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """The gradients of a bucket added up, without PyTorch's division by the number of processes."""
    work = distributed.all_reduce(bucket.buffer(), async_op=True)
    found: torch.futures.Future[Tensor] = work.get_future().then(lambda future: future.value()[0])
    return found


def divisor(module: nn.Module, processes: int) -> int:
    """What gradients are divided by on their way: FSDP2 averages, DistributedDataParallel adds up here."""
    return 1 if isinstance(module, nn.parallel.DistributedDataParallel) else processes


def apart(module: nn.Module, *, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Inside, gradients stay with their process, except of the last part of a step."""
    waits = isinstance(module, nn.parallel.DistributedDataParallel) and not last
    return module.no_sync() if waits else contextlib.nullcontext()  # type: ignore[operator]


def whole(value: Any) -> Any:
    """A value whose tensors are complete; all processes must ask for the same, in the same order.

    A tensor that was cut comes to the CPU, since all of them together need not fit on one device.
    """
    if isinstance(value, dict):
        return {name: whole(item) for name, item in value.items()}
    return value.full_tensor().cpu() if hasattr(value, "full_tensor") else value


def cut_like(value: Any, like: Any) -> Any:
    """A complete tensor cut as another one of its shape is; all else as it is."""
    if not (isinstance(value, Tensor) and hasattr(like, "placements") and value.shape == like.shape):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def clip(module: nn.Module, longest: float) -> float:
    """Shorten the gradient of all parameters together to that length; returns the length it had.

    Waits for the device, but does not go through a gradient that is short enough a second time.
    """
    if not hasattr(torch.nn.utils, "get_total_norm"):  # before PyTorch 2.6
        return float(whole(torch.nn.utils.clip_grad_norm_(module.parameters(), longest)))
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm: Tensor = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    length = float(whole(norm))
    if not length < SHORT * longest:
        torch.nn.utils.clip_grads_with_norm_(parameters, longest, norm)
    return length
