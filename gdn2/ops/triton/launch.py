"""Launching a kernel often: Triton looks at the arguments of a first call only.

A launch through Triton costs 20 to 30 microseconds of the host's time, most of which goes into finding out again which
compiled binary fits. A `Launcher` is one kernel with its compile-time arguments; its caller promises that whatever
Triton specialises on stays the same: dtypes, which arguments are None, and pointers aligned to 16 bytes. From the
second launch on a tensor may be given as its address, which saves Triton a look at each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from triton.runtime import driver

try:
    from triton import knobs
except ImportError:  # before Triton 3.4
    knobs = None

ALIGNMENT = 16  # bytes
OPTIONS = ("num_warps", "num_stages", "maxnreg")  # of the compiler; whatever else a tile has is an argument


class Launcher:
    """One kernel with compile-time arguments; `launcher(grid, *arguments)` runs it on the current stream.

    Args:
        kernel: a `triton.jit` function whose compile-time arguments come after all others.
        constants: the compile-time arguments by name; names that the kernel lacks are left out.
        tile: compiler options and block sizes, which are compile-time arguments too.
    """

    def __init__(self, kernel: Any, constants: dict[str, Any], tile: dict[str, int]) -> None:
        values = constants | tile
        self.kernel = kernel
        names = [parameter.name for parameter in kernel.params] if hasattr(kernel, "params") else kernel.arg_names
        self.constants = {name: values[name] for name in names if name in values}
        self.options = {name: tile[name] for name in OPTIONS if name in tile}
        self.values = tuple(self.constants.values())
        self.compiled: Any = None

    def __call__(self, grid: tuple[int, int, int], *arguments: Any) -> None:
        """Run the kernel over `grid`, the number of programs on each of three axes."""
        if self.compiled is not None:
            active = driver.active
            self._again(grid, active.get_current_stream(active.get_current_device()), arguments)
        else:
            # The interpreter returns None, so that under it every call goes the long way.
            self.compiled = self.kernel[grid](*arguments, **self.constants, **self.options)

    def to(self, stream: torch.cuda.Stream | None) -> Callable[..., None]:
        """What runs the kernel on a stream of the current device, or on the current stream, for one call.

        It is `run(programs, *arguments)`, along the first axis.
        """
        compiled, values = self.compiled, self.values
        if stream is None or compiled is None or _has_hooks():
            return partial(self._slowly, stream)
        run, function, metadata, handle = compiled.run, compiled.function, compiled.packed_metadata, stream.cuda_stream

        def again(programs: int, *arguments: Any) -> None:
            run(programs, 1, 1, handle, function, metadata, None, None, None, *arguments, *values)

        return again

    def _slowly(self, stream: torch.cuda.Stream | None, programs: int, *arguments: Any) -> None:
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            self((programs, 1, 1), *arguments)

    def _again(self, grid: tuple[int, int, int], stream: int, arguments: tuple[Any, ...]) -> None:
        """Launch the binary as Triton's own `compiled[grid]` does, without asking hooks that nobody has set."""
        compiled = self.compiled
        if _has_hooks():
            compiled[grid](*arguments, *self.values, stream=stream)
        else:
            compiled.run(
                *grid, stream, compiled.function, compiled.packed_metadata, None, None, None, *arguments, *self.values
            )


def _has_hooks() -> bool:
    """Whether somebody, such as a profiler, wants to know of each launch, or Triton is too old to tell."""
    if knobs is None:
        return True
    hooks = (knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook)
    return any(hook is not None and getattr(hook, "calls", True) for hook in hooks)


@lru_cache(maxsize=1024)
def launcher_of(kernel: Any, values: tuple[tuple[str, Any], ...], kind: Hashable, device: torch.device) -> Launcher:
    """The launcher of a kernel, the same one for every call of one kind.

    Args:
        kernel: a `triton.jit` function.
        values: its compile-time arguments and compiler options, by name.
        kind: all that Triton specialises on: the dtypes of the arguments and which of them are None.
        device: where the arguments are.
    """
    del kind, device  # they are part of the cache's key
    tile = {name: value for name, value in values if name in OPTIONS}
    return Launcher(kernel, {name: value for name, value in values if name not in OPTIONS}, tile)


def on_device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Kernels inside run on the GPU that holds x."""
    if x.is_cuda and x.device.index != torch.cuda.current_device():
        return torch.cuda.device(x.device)
    return nullcontext()


def is_aligned(*tensors: Tensor) -> bool:
    """Whether all of them begin at an address that Triton takes for aligned."""
    return all(x.data_ptr() % ALIGNMENT == 0 for x in tensors)


def launchable(x: Tensor) -> Tensor:
    """The same numbers, contiguous and at an aligned address; they are copied if need be."""
    x = x.contiguous()
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()
