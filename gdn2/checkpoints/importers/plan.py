"""What an import will do, worked out from names and shapes before a tensor is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from basis.hub import checkpoint_name
from basis.names import or_near
from gdn2.checkpoints.errors import CheckpointError, first_line
from gdn2.checkpoints.folders import checkpoint_folder
from gdn2.checkpoints.importers.keymap import EMBEDDING, HEAD, Entry, Shape, problems
from gdn2.checkpoints.names import is_buffer
from gdn2.checkpoints.shapes import model_shapes
from gdn2.checkpoints.tensors import Tensors, open_weights, read_json, weight_files
from gdn2.config import GDN2Config

# What the training code calls settings that only it has.
THEIR_NAMES = {"rotary_percentage": "rope_fraction", "rope_condense_ratio": "condense_ratio"}


class Source:
    """A checkpoint as found: a folder, or a single file with weights.

    Raises:
        CheckpointError: neither, or a config.json that is no JSON object.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise CheckpointError(f"{path}: no such file or folder")
        path = checkpoint_folder(path)
        self.path = path
        self.folder = path if path.is_dir() else path.parent
        file = path / "config.json"
        self.config_file = file if file.is_file() else None
        self.config: dict[str, Any] = read_json(file) if file.is_file() else {}

    @cached_property
    def tensors(self) -> Tensors:
        """The tensors; opened when first asked for."""
        return open_weights(self.path)

    @property
    def name(self) -> str:
        """What the checkpoint is called."""
        return checkpoint_name(self.path)

    @property
    def files(self) -> list[Path]:
        """All that decides what is imported, besides options and tokenizer."""
        return ([self.config_file] if self.config_file else []) + weight_files(self.path)

    @property
    def quantised(self) -> str | None:
        """How the weights were quantised before they became numbers again; None if they are as they were trained."""
        return None

    def write_tokenizer(self, folder: Path) -> None:
        """Write a tokenizer that is in the weights' own file into a folder; most formats have none there."""

    @property
    def model_type(self) -> str:
        """The field of that name in config.json, or nothing."""
        return str(self.config.get("model_type", ""))


@dataclass(frozen=True)
class Importer:
    """One foreign format.

    Attributes:
        name: what a user calls it.
        matches: whether a source looks like it; looks at the config first and opens weights only if it must.
        plan: the plan of a source that matches, before options.
    """

    name: str
    matches: Callable[[Source], bool]
    plan: Callable[[Source, Mapping[str, Any]], ImportPlan]


@dataclass(frozen=True)
class ImportPlan:
    """A checked import.

    Attributes:
        format: the importer's name.
        config: the model's configuration.
        entries: the key map.
        shapes: the shapes of the model's tensors.
        unused: tensors of the source that hold nothing the model needs.
        assumed: fields that the source does not tell, with the values taken for them.
        settings: fields that the user has set.
    """

    format: str
    source: Source
    config: GDN2Config
    entries: tuple[Entry, ...]
    shapes: dict[str, Shape]
    unused: tuple[str, ...] = ()
    assumed: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def make_plan(
    source: Source,
    name: str,
    values: Mapping[str, Any],
    *,
    entries: Callable[[GDN2Config, list[str]], list[Entry]],
    assumed: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    not_read: tuple[str, ...] = (),
) -> ImportPlan:
    """Make the plan for a configuration, and check it.

    Args:
        source: the checkpoint.
        name: the format, for messages and the record.
        values: fields of `GDN2Config`, from the source.
        entries: the key map for a configuration and the names of its tensors.
        assumed: fields that the source does not tell.
        settings: fields that the user has set; they win over the others.
        not_read: beginnings of the names of tensors that are of another model in the same folder.

    Raises:
        CheckpointError: a configuration that is not possible, or tensors that do not fit it; all of them are listed.
    """
    settings, assumed, values = dict(settings or {}), dict(assumed or {}), dict(values)
    stored, where = source.tensors, source.config_file or source.path
    if "tie_word_embeddings" not in settings and not values.get("tie_word_embeddings") and HEAD not in stored:
        values.pop("tie_word_embeddings", None)
        assumed["tie_word_embeddings"] = True  # no head is stored, as where it is the embedding in fact
    try:
        config = GDN2Config(**{**assumed, **values, **settings})
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{where}: {first_line(error)}") from error
    shapes = model_shapes(config, stored, where)
    if config.tie_word_embeddings:
        del shapes[HEAD]
    mapped = tuple(entries(config, list(shapes)))
    left_out = [*(key for key in stored if is_buffer(key) or key.startswith(not_read)), *stored.left_out]
    if config.tie_word_embeddings:
        left_out += _duplicate_head(source, name, mapped)
    if found := problems(mapped, stored, shapes, left_out):
        raise CheckpointError(f"{source.path}: the tensors do not fit the format {name!r}: {'; '.join(found)}")
    kept = {key: value for key, value in assumed.items() if key not in settings and key not in values}
    return ImportPlan(name, source, config, mapped, shapes, tuple(left_out), kept, settings)


def parse_settings(texts: list[str]) -> dict[str, Any]:
    """`["norm_eps=1e-6", "output_gate=silu"]` as fields of `GDN2Config`.

    Raises:
        CheckpointError: no "=", or a field that does not exist.
    """
    kinds = {name: str(kind) for name, kind in GDN2Config.__annotations__.items() if "ClassVar" not in str(kind)}
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise CheckpointError(f"--set {text!r}: write FIELD=VALUE, for example output_gate=silu")
        name = THEIR_NAMES.get(name, name)
        if name not in kinds:
            near = or_near(name, [*kinds, *THEIR_NAMES]) or "; its fields are in gdn2/config.py"
            raise CheckpointError(f"--set {text!r}: GDN2Config has no field {name!r}{near}")
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value
        whole = isinstance(parsed, int) and not isinstance(parsed, bool) and abs(parsed) < 1e300
        found[name] = float(parsed) if kinds[name].startswith("float") and whole else parsed
    return found


def _duplicate_head(source: Source, name: str, entries: tuple[Entry, ...]) -> list[str]:
    """The source's head, if it has one although its config says that the embedding is the head: it must be equal."""
    embedding = next(entry.source for entry in entries if EMBEDDING in entry.targets)
    stored = source.tensors
    if HEAD not in stored or embedding not in stored:
        return []
    head, own = stored[HEAD], stored[embedding]
    if head.shape != own.shape or not bool((head.load() == own.load()).all()):
        raise CheckpointError(
            f"{source.path}: tie_word_embeddings is true but {HEAD} differs from {embedding}, so the config or the "
            f"tensors are of another model (format {name!r})"
        )
    return [HEAD]
