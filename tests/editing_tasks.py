"""Documents of memory editing in tests, and answerers that read nothing but the prompt."""

from __future__ import annotations

import random
import re
from typing import Any

from tasks.editing.edits import EditGenerator
from tasks.editing.spec import EditSpec
from tasks.text.planting import join_prompt

STATEMENT = re.compile(
    r"The special magic number for ([^.]+?) (?:is (\d+)|has changed, it is now (\d+)|has been (withdrawn))"
)
SPECS: dict[str, dict[str, Any]] = {
    "overwrite": {"probe": "overwrite", "keys": 3, "updates": 2},
    "retention": {"probe": "retention", "keys": 5, "edited": 2},
    "forget": {"probe": "forget", "keys": 4, "edited": 2},
    "recall": {"probe": "recall", "keys": 6, "queries": 3},
}


def edit_generator(tokenizer: Any, probe: str = "overwrite", length: int = 1024, **fields: Any) -> EditGenerator:
    spec = {"task": f"t_{probe}", "length": length, **SPECS[probe], **fields}
    return EditGenerator(EditSpec.parse(spec), tokenizer)


def prompt_of(doc: dict[str, Any]) -> str:
    return join_prompt(doc["input"], doc["gen_prefix"])


def history(prompt: str) -> list[tuple[str, str | None]]:
    """Every statement as (key, value), in order; None for a withdrawal."""
    return [(key, first or changed or None) for key, first, changed, _ in STATEMENT.findall(prompt)]


def asked_key(prompt: str) -> str:
    return re.findall(r"(?:magic number for |\n)([^.?\n]+?)(?: mentioned in the provided text is|:)$", prompt)[0]  # type: ignore[no-any-return]


def perfect(prompt: str) -> str:
    if "magic" not in prompt:
        value = dict(statements(prompt))[asked_key(prompt)]
        assert value is not None
        return value
    return dict(history(prompt))[asked_key(prompt)] or "none"


def never_erasing(prompt: str) -> str:
    """A memory that keeps the first value of a key whatever comes later."""
    values: dict[str, str] = {}
    for key, value in history(prompt):
        if value:
            values.setdefault(key, value)
    return values[asked_key(prompt)]


def over_erasing(prompt: str) -> str:
    """A memory in which an edit takes all keys with it that are not edited themselves."""
    seen: set[str] = set()
    edited: dict[str, str | None] = {}
    for key, value in history(prompt):
        if key in seen:
            edited[key] = value
        seen.add(key)
    return edited.get(asked_key(prompt)) or "I do not remember"


def echo(prompt: str) -> str:
    """Goes through the text again, from its first statement on."""
    return prompt[prompt.index("The special magic") :]


def statements(prompt: str) -> list[tuple[str, str | None]]:
    """Those of a block of pairs as well."""
    pairs = re.findall(r"([^.:\n]+): (\d+)\.", prompt)
    asked = asked_key(prompt)  # a sentence that was cut may stand in front of the first key
    return history(prompt) or [(asked if key.endswith(f" {asked}") else key.strip(), value) for key, value in pairs]


def first_writes(prompt: str) -> str:
    """As `never_erasing`, for pairs as well."""
    values: dict[str, str] = {}
    for key, value in statements(prompt):
        if value:
            values.setdefault(key, value)
    return values[asked_key(prompt)]


def last_write_only(prompt: str) -> str:
    """A memory that every write empties first."""
    key, value = statements(prompt)[-1]
    return (key == asked_key(prompt) and value) or "I do not remember"


def at_random(prompt: str) -> str:
    """Any value of the text."""
    return random.Random(prompt).choice(sorted({value for _, value in statements(prompt) if value}))
