"""The options of a run, each written once: its type, default, limits, and what the command line says of it.

Imports nothing heavy: the command line makes its flags from these fields.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from basis.names import must_be_one_of, or_near
from harness.errors import UserError
from tasks.limits import LARGEST_SEED, MAX_LENGTH, MOST_SAMPLES, MOST_SHOTS
from tasks.ruler.generators import GENERATORS
from tasks.text.tokenizers import CONTEXT_PREFIXES

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")
LONGEST_FOLDER = 150
"""Bytes of a model's name, which folders are called by; with what is put beside it, file systems take 255."""
OWN_NAME = "{}"
"""Stands for the checkpoint's own name in --name."""
DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


def about(text: str, **limits: Any) -> Mapping[str, Any]:
    """What a field of `RunOptions` says of itself.

    Args:
        text: what `--help` says.
        **limits: `least` and `most` of a number, `choices`, `metavar`.

    Returns:
        The field's metadata.
    """
    return {"help": text, **limits}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a run is asked to do, as typed.

    Raises:
        UserError: a value that no run can have; the message names its flag.
    """

    checkpoint: str = field(
        default="",
        metadata=about("a folder (a foreign one is imported), a file with weights, or a name: of the zoo, or staged"),
    )
    suite: str = field(default="quick", metadata=about("a suite by name, or a YAML file (default: quick)"))
    tasks: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "instead of a suite: names with commas, such as niah_single_1@1024,squad_retrieval, or YAML files",
            metavar="TASK[,TASK...]",
        ),
    )
    samples: int | None = field(
        default=None, metadata=about("documents a task (default: as the suite says)", least=1, most=MOST_SAMPLES)
    )
    seed: int | None = field(
        default=None,
        metadata=about("of the documents (default: as the suite says)", least=-LARGEST_SEED, most=LARGEST_SEED),
    )
    generator: str | None = field(
        default=None, metadata=about("of RULER's tasks (default: as the suite says, else exact)", choices=GENERATORS)
    )
    shots: int | None = field(
        default=None,
        metadata=about(
            "solved examples before a question, where a task takes any (default: 0)", least=0, most=MOST_SHOTS
        ),
    )
    batch_size: int | None = field(
        default=None, metadata=about("the most rows read together (default: what memory holds)", least=1)
    )
    batch_tokens: int | None = field(
        default=None, metadata=about("the most tokens a step (default: from the free memory)", least=1)
    )
    workers: int = field(
        default=0, metadata=about("processes with a copy of the model each, by Ray (default: none)", least=0, most=4096)
    )
    stop_at_references: bool = field(
        default=False,
        metadata=about(
            "end a needle's generation when every reference has appeared: the same scores, sooner; recorded"
        ),
    )
    prefix_states: Path | None = field(
        default=None, metadata=about("a folder that keeps states of long shared prefixes")
    )
    device: str = field(default="auto", metadata=about("auto (default: a GPU if there is one), cpu, cuda, cuda:1, ..."))
    dtype: str = field(
        default="auto",
        metadata=about(
            "of the weights and activations (default: auto: float32 on a CPU, what the checkpoint was saved in on a "
            "GPU); states are float32 or wider",
            choices=DTYPES,
        ),
    )
    context_prefix: str | None = field(
        default=None,
        metadata=about(
            "what comes before every context: tokenizer, none, bos, eos or lm-eval (default: as the suite says)",
            choices=CONTEXT_PREFIXES,
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=about("cut longer contexts (default: as long as a task asks for)", least=1, most=MAX_LENGTH),
    )
    tokenizer: str | None = field(
        default=None, metadata=about("folder of the tokenizer, if it is not the checkpoint's")
    )
    settings: tuple[str, ...] = field(
        default=(),
        metadata=about(
            "for a foreign checkpoint: what its files do not tell, such as output_gate=silu", metavar="FIELD=VALUE"
        ),
    )
    output: Path = field(default=Path("results/runs"), metadata=about("where results go (default: results/runs)"))
    name: str | None = field(
        default=None, metadata=about("the model's name in tables; {} stands for its own (default: the folder's)")
    )
    command: tuple[str, ...] = ()
    """The arguments as typed, for the record."""

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _typed(item.name, getattr(self, item.name), str(item.type)))
        if self.tasks and not all(self.tasks):
            raise UserError("--tasks: names no task, or an empty name between commas")
        for item in fields(self):
            _check(item.name, getattr(self, item.name), item.metadata)
        if self.name is not None and ("/" in self.name or self.name.startswith(".")):
            raise UserError(f"--name {self.name!r}: must not contain / or begin with a dot")
        if self.name is not None and len(self.name.encode()) > LONGEST_FOLDER:
            raise UserError(
                f"--name: is a folder's name, at most {LONGEST_FOLDER} bytes, got {len(self.name.encode())}"
            )
        check_device(self.device)


def check_several(all_options: Sequence[RunOptions]) -> None:
    """Refuse what cannot be meant for several checkpoints.

    Raises:
        UserError: one is given twice, or all would have the same name.
    """
    if len(all_options) < 2:
        return
    places = [_place(options.checkpoint) for options in all_options]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise UserError(f"{flag('checkpoint')} {twice}: given twice")
    name = all_options[0].name
    if name is not None and OWN_NAME not in name:
        raise UserError(
            f"--name {name}: {len(all_options)} checkpoints cannot have one name; say it with {OWN_NAME}, which stands "
            f"for each one's own, such as --name '{name}-{OWN_NAME}'"
        )


def check_device(name: str, option: str = "--device") -> None:
    """Refuse what is no name of a device; whether it is there, PyTorch says later.

    Args:
        name: as it was typed.
        option: what messages begin with.

    Raises:
        UserError: names those that are known.
    """
    if not re.fullmatch(rf"(?:{'|'.join(DEVICES)})|(?:cuda|xpu):\d{{1,3}}", name):
        known, kind = f"{', '.join(DEVICES)}, and a number as in cuda:1", name.partition(":")[0]
        raise UserError(f"{option} {name!r}: no such device; known: {known}{or_near(kind, DEVICES)}")


def flag(name: str) -> str:
    """The flag of an option on the command line."""
    return {"checkpoint": "CHECKPOINT", "settings": "--set"}.get(name, "--" + name.replace("_", "-"))


def _typed(name: str, value: Any, kind: str) -> Any:
    """The value as its option's type has it; paths may be text and the other way round, lists text with commas.

    Raises:
        UserError: a value of another type, as calls from Python and files may have.
    """
    base, _, rest = kind.partition(" | ")
    if value is None and rest:
        return None
    if base == "tuple[str, ...]":
        listed = value.split(",") if isinstance(value, str) else [value] if isinstance(value, PurePath) else value
        if not isinstance(listed, (list, tuple)):
            raise UserError(f"{flag(name)} must be a list of texts, got {value!r}")
        return tuple(_typed(name, part, "str").strip() for part in listed)
    types, wanted = _TYPES[base]
    if not isinstance(value, types) or (base == "int" and isinstance(value, bool)):
        raise UserError(f"{flag(name)} must be {wanted}, got {value!r}")
    if base == "Path":
        return Path(_checked_text(name, str(value)))
    return str(value) if base == "str" else value


_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "str": ((str, PurePath), "text"),
    "Path": ((str, PurePath), "a path"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
}


def _check(name: str, value: Any, about: Mapping[str, Any]) -> None:
    """Refuse a value outside the limits of its option."""
    for text in (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ():
        _checked_text(name, text)
    least, most = about.get("least", -math.inf), about.get("most", math.inf)
    if isinstance(value, int) and not isinstance(value, bool) and not least <= value <= most:
        wanted = f"at least {least}" if value < least else f"at most {most}"
        raise UserError(f"{flag(name)} must be {wanted}, got {value}")
    choices: Sequence[str] | None = about.get("choices")
    if choices and value is not None and value not in choices:
        raise UserError(f"{flag(name)} {must_be_one_of(choices, value)}")


def _checked_text(name: str, text: str) -> str:
    """The text, if it is one: not empty, and with nothing that cannot be written as UTF-8."""
    if not text.strip():
        raise UserError(f"{flag(name)}: must not be empty")
    if any(0xD800 <= ord(character) < 0xE000 or character == "\0" for character in text):
        raise UserError(f"{flag(name)}: {text!r} is no valid UTF-8 text")
    return text


def _place(checkpoint: str) -> str:
    path = Path(checkpoint).expanduser()
    return str(path.resolve()) if path.exists() else checkpoint
