"""A GGUF file's metadata and tensors, by the package `gguf`, with everything that can be wrong said in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gdn2.checkpoints.errors import CheckpointError, first_line
from gdn2.checkpoints.tensors import Stored, Tensors

PLAIN = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of tensors that hold numbers as they are; all others are quantised."""
UNREADABLE = (
    *(ValueError, IndexError, KeyError, OSError, OverflowError, TypeError, AttributeError, MemoryError),
    *(UnicodeDecodeError, NotImplementedError),
)
"""What the package raises at a file that is cut short or no GGUF file."""
Change = Callable[[str, Tensor], Tensor]


class GGUFFile:
    """A GGUF file, its header read and its tensors mapped.

    Args:
        path: the file.

    Attributes:
        path: the file.
        metadata: its keys with their values: numbers, texts, or lists of these.

    Raises:
        CheckpointError: the package `gguf` is not installed; a file that is cut short, damaged, one part of several,
            or no GGUF file.
    """

    def __init__(self, path: Path) -> None:
        reader_of = _package(path).GGUFReader
        self.path = path
        try:
            reader = reader_of(path)
            self._tensors = list(reader.tensors)
            self.metadata: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        except UNREADABLE as error:
            raise CheckpointError(
                f"{path}: is cut short, damaged or no GGUF file ({first_line(error)}); copy it again and compare "
                "its size with the original's"
            ) from error
        parts = self.metadata.get("split.count", 1)
        if parts != 1:
            raise CheckpointError(f"{path}: is one of {parts} parts; join them with llama.cpp's gguf-split --merge")

    @property
    def names(self) -> set[str]:
        """The names of its tensors, as they are in the file."""
        return {tensor.name for tensor in self._tensors}

    @property
    def quantised(self) -> str | None:
        """How many tensors are quantised and how, such as `Q4_1 (210 of 272 tensors)`; None if none is."""
        found = Counter(tensor.tensor_type.name for tensor in self._tensors)
        said = [f"{name} ({n} of {len(self._tensors)} tensors)" for name, n in found.most_common() if name not in PLAIN]
        return ", ".join(said) or None

    def tensors(self, rename: Callable[[str], str], change: Change) -> Tensors:
        """The tensors by new names, read when asked for; quantised ones become float32.

        Args:
            rename: the new name of a tensor.
            change: what a tensor of an old name becomes.
        """
        return _GGUFTensors(self.path, {rename(one.name): (one, change) for one in self._tensors})


class _GGUFTensors(Tensors):
    """The tensors of a GGUF file as those of any other."""

    def __init__(self, path: Path, found: Mapping[str, tuple[Any, Change]]) -> None:
        self.files = (path,)
        self.left_out = ()
        self._stored = {name: _stored(path, one, change) for name, (one, change) in found.items()}


def _stored(path: Path, one: Any, change: Change) -> Stored:
    dtype = PLAIN.get(one.tensor_type.name, torch.float32)
    shape = tuple(int(size) for size in reversed(one.shape))

    def load() -> Tensor:
        import numpy as np

        try:
            values = np.array(_package(path).dequantize(one.data, one.tensor_type)).reshape(shape)
        except UNREADABLE as error:
            raise CheckpointError(
                f"{path}: {one.name} of type {one.tensor_type.name} cannot be read ({first_line(error)})"
            ) from error
        return change(one.name, torch.from_numpy(values).to(dtype))

    return Stored(shape, dtype, load)


def _package(path: Path) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise CheckpointError(f"{path}: needs the package gguf; install it with: pip install 'gdn2[gguf]'") from error
    return gguf
