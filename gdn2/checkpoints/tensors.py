"""The tensors of files of any format by name: shapes at once, values when asked for. Nothing in a file is executed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from basis.errors import FileError, shown
from basis.files import load_json
from basis.names import listed
from gdn2.checkpoints.errors import CheckpointError, first_line
from gdn2.checkpoints.names import is_buffer, plain_names

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
STEMS = ("model.safetensors", "pytorch_model.bin")
WEIGHT_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth")
STATE_DICTS = ("model", "state_dict", "model_state_dict", "module")  # where trainers put the weights in a file
SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}
FLOATS = frozenset(SAFETENSORS_DTYPES.values())
CODE = re.compile(r"GLOBAL|[Uu]nsupported (?:global|class)|Trying to|[Ff]orbidden")  # of torch's refusals
DAMAGED = "is cut short, damaged or of another format; copy it again and compare its size with the original's"


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: what it is, and how to get it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    load: Callable[[], Tensor]


class Tensors(Mapping[str, Stored]):
    """The tensors of some files, read lazily, by their names without what wrappers put into them.

    Args:
        files: safetensors files or PyTorch files; together they are one model.
        index: which file holds which tensor, where an index says so; it decides between files that hold the same one.

    Attributes:
        files: the files.
        left_out: buffers of whole numbers, such as position ids, which are no weights.

    Raises:
        CheckpointError: a file that is missing, cut short or of another format; PyTorch files with Python objects
            that are no tensors; a name that occurs twice, or that the index looks for in vain; numbers that are not
            floating point.
    """

    def __init__(self, files: Iterable[Path], index: Mapping[str, str] | None = None) -> None:
        self.files = tuple(files)
        raw: dict[str, Stored] = {}
        held: dict[str, set[str]] = {}
        left_out: list[str] = []
        for file in self.files:
            found = _open_safetensors(file) if file.suffix == ".safetensors" else _open_torch(file)
            held[file.name] = set(found)
            found = {name: one for name, one in found.items() if (index or {}).get(name, file.name) == file.name}
            twice = sorted(found.keys() & raw.keys())
            if twice:
                raise CheckpointError(f"{file}: holds tensors that another file holds as well: {listed(twice, 3)}")
            left_out += [name for name, one in found.items() if one.dtype not in FLOATS]
            raw |= {name: one for name, one in found.items() if name not in left_out}
        for name, at in (index or {}).items():
            if name not in held[at]:
                where = self.files[0].parent / at
                raise CheckpointError(f"{where}: does not hold {name}, as the index says; copy both again")
        self.left_out = tuple(sorted(left_out))
        names = plain_names(raw)
        self._stored = {names[name]: one for name, one in raw.items()}
        if len(self._stored) < len(raw):
            raise CheckpointError(f"{self.files[0]}: two tensors have one name once wrappers' names are taken off")

    def __getitem__(self, name: str) -> Stored:
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def open_weights(path: Path) -> Tensors:
    """Open the weights of a checkpoint: a folder, or a file.

    Raises:
        CheckpointError: as `weight_files` and `Tensors`.
    """
    if path.is_dir():
        for stem in STEMS:
            if (path / f"{stem}.index.json").is_file():
                weight_map = _weight_map(path / f"{stem}.index.json")
                return Tensors(weight_files(path), weight_map)
    return Tensors(weight_files(path))


def weight_files(path: Path) -> list[Path]:
    """Find the files with weights of a checkpoint.

    Args:
        path: a file, which is its own weights; or a folder.

    Returns:
        In a folder those of an index, else model.safetensors or pytorch_model.bin, else all *.safetensors, else the
        only file with a PyTorch suffix.

    Raises:
        CheckpointError: nothing there, more than one candidate, or an index that names files that are not there.
    """
    if path.is_file():
        return [path]
    for stem in STEMS:
        if (path / f"{stem}.index.json").is_file():
            return _indexed(path / f"{stem}.index.json")
        if (path / stem).is_file():
            return [path / stem]
    if found := sorted(path.glob("*.safetensors")):
        return found
    found = sorted(file for file in path.iterdir() if file.suffix in TORCH_SUFFIXES and file.name not in NO_WEIGHTS)
    if len(found) == 1:
        return found
    if found:
        names = listed([file.name for file in found], 5)
        raise CheckpointError(
            f"{path}: more than one file with weights ({names}); give one of them instead of the folder"
        )
    raise CheckpointError(f"{path}: no weights in it (*.safetensors, *.bin, *.pth); copy them there")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file cannot be read, is no JSON, or holds something else.
    """
    try:
        value = load_json(file)
    except FileError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object")
    return value


def _indexed(index: Path) -> list[Path]:
    files = sorted({index.parent / name for name in _weight_map(index).values()})
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(f"{index}: names files that are not there: {listed(missing, 3)}; copy them too")
    return files


def _weight_map(index: Path) -> dict[str, str]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index}: has no weight_map; copy the file again")
    for name, file in names.items():
        if not isinstance(file, str) or Path(file).name != file or Path(file).suffix not in WEIGHT_SUFFIXES:
            raise CheckpointError(f"{index}: weight_map.{name} = {shown(file)} is no file with weights beside it")
    return names


def _open_safetensors(file: Path) -> dict[str, Stored]:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(file, framework="pt")
        slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (a handle is no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: {DAMAGED} ({first_line(error)})") from error
    found = {}
    for name, part in slices.items():
        dtype = SAFETENSORS_DTYPES.get(part.get_dtype())
        if dtype is None and is_buffer(name):
            dtype = torch.int64  # or another type of no weights
        if dtype is None:
            raise CheckpointError(f"{file}: {name} is of type {part.get_dtype()}; only floating-point weights fit")
        found[name] = Stored(tuple(part.get_shape()), dtype, _loader(handle, name))
    return found


def _loader(handle: Any, name: str) -> Callable[[], Tensor]:
    return lambda: handle.get_tensor(name)


def _open_torch(file: Path) -> dict[str, Stored]:
    content = _unpickle(file)
    weights = _state_dict(content)
    if weights is None:
        held = listed(sorted(map(str, content)), 5) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{file}: holds no state dict, at its top or under {', '.join(STATE_DICTS)}; it holds {held}; save the "
            'weights with torch.save({"model": model.state_dict()}, FILE)'
        )
    found: dict[str, Stored] = {}
    for name, value in weights.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise CheckpointError(f"{file}: {name} is a {type(value).__name__}, not a tensor; save a plain state dict")
        if value.layout != torch.strided or value.is_meta:
            raise CheckpointError(
                f"{file}: {name} does not hold all its values (it is sparse or meta); save a plain one"
            )
        if value.dtype not in FLOATS and not is_buffer(name):
            raise CheckpointError(f"{file}: {name} is of type {value.dtype}; only floating-point weights fit")
        found[name] = Stored(tuple(value.shape), value.dtype, _constant(value))
    return found


def _constant(tensor: Tensor) -> Callable[[], Tensor]:
    return lambda: tensor


def _unpickle(file: Path) -> Any:
    """The content of a PyTorch file: tensors in containers only, mapped into memory where the format allows it."""
    for mmap in (True, False):
        try:
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        except pickle.UnpicklingError as error:
            if not CODE.search(str(error)):
                raise CheckpointError(f"{file}: {DAMAGED}") from error
            name = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = name[1] if name else "Python objects"
            raise CheckpointError(
                f"{file}: holds pickled code or objects that are no tensors ({what}), which are never executed here; "
                'where it came from, save the weights alone: torch.save({"model": model.state_dict()}, FILE)'
            ) from error
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            if mmap and "mmap can only be used" in str(error):
                continue  # the format before PyTorch 1.6
            raise CheckpointError(f"{file}: {DAMAGED} ({first_line(error)})") from error
    raise AssertionError("a file without mmap is read or refused")


def _state_dict(content: Any) -> dict[str, Any] | None:
    """The dictionary that holds the tensors."""
    if not isinstance(content, dict):
        return None
    for name in STATE_DICTS:
        inner = content.get(name)
        if isinstance(inner, dict) and any(isinstance(value, Tensor) for value in inner.values()):
            return inner
    return content if any(isinstance(value, Tensor) for value in content.values()) else None


def write_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file.

    Args:
        tensors: by name.
        path: the file.
        about: texts for its header.

    Raises:
        OSError: the disk refuses; safetensors has an error of its own for that, which is none of these.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata=None if about is None else dict(about))
    except SafetensorError as error:
        found = re.search(r"(?:error: )?([^:]*) \(os error (\d+)\)", str(error))
        raise (OSError(int(found[2]), found[1].strip()) if found else OSError(str(error))) from error
