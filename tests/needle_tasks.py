"""A retrieval task of the user's own, in tests: its spec, its file, its samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.needle.needles import NeedleGenerator
from tasks.needle.spec import NeedleSpec
from tasks.starter import BASE
from tasks.text.planting import join_prompt

SPEC: dict[str, Any] = {
    "task": "mine",
    "length": 700,
    "haystack": "essay",
    "key": "words",
    "value": {"kind": "numbers", "digits": 6},
    "needle": "The code of {key} is {value}.",
    "question": "What is the code of {key}?",
    "answer_prefix": "The code of {key} is",
    "generated_tokens": 40,
}
OWN_TEXT = " ".join(f"Sentence number {word} tells of rivers and hills." for word in "abcdefghijklmnopqrstuvwxyz" * 9)


def needle_generator(tokenizer: Any, folder: Path = Path(), **fields: Any) -> NeedleGenerator:
    return NeedleGenerator(NeedleSpec.parse({**SPEC, **fields}, folder), tokenizer)


def prompt_of(doc: dict[str, Any]) -> str:
    return join_prompt(doc["input"], doc["gen_prefix"])


def write_task(folder: Path, name: str = "mine", top: str = "", **fields: Any) -> Path:
    """A task's file with one field a line, so that a field's line can be told."""
    spec = {**SPEC, "task": name, "lengths": [700], **fields}
    spec.pop("length")
    lines = [f"    {field}: {json.dumps(value)}" for field, value in spec.items() if value is not None]
    generation = {"until": ["\n"], "max_gen_toks": spec["generated_tokens"]}
    file = folder / f"{name}.yaml"
    file.write_text(
        f"include: {BASE}\ntask: {name}\n{top}generation_kwargs: {json.dumps(generation)}\n"
        "dataset_kwargs:\n  spec:\n" + "\n".join(lines) + "\n"
    )
    return file
