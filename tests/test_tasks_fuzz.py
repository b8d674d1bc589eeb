"""Task files, suites and lists of any content: read, or refused by the project's own error; never anything else."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from needle_tasks import SPEC

from tasks import own
from tasks.errors import TaskError
from tasks.generators import find_generator
from tasks.needle.sources import parse_source, read_text
from tasks.registry import load_suite, resolve
from tasks.starter import BASE
from tasks.text.kinds import parse_kind

pytestmark = pytest.mark.usefixtures("data_folder", "no_files_known")

ODD: list[Any] = [
    *(None, True, False, 0, -1, 5, 2**31, 2**63, 10**30, 1.5, -0.0, float("nan"), float("inf"), 10**12),
    *("", " ", "x", "a b", "\0", "\x1b]0;t\x07", "../x", "{key}", "{", "{key:>99999999999}", "{0}", "{key!r}"),
    *("é\u2028x", "\ufeffx", "x" * 5000, "essay", "needle", "noise", "numbers", "null", "2024-01-01", "!function"),
    *([], {}, [None], [[]], [1, "a"], {"a": 1}, {1: 2}, {None: []}, [{}], {"kind": "regex", "pattern": "(a*)*$b"}),
    *({"kind": "regex", "pattern": "a{99999999}"}, {"kind": "regex", "pattern": "\\ud83d"}, {"file": "\0.txt"}),
    *({"kind": "file", "path": "."}, {"kind": "list", "items": [""]}, {"file": "absent.txt"}, {"grid": 10**20}),
    *([512, 10**9], [0.5, float("nan")], {"hub": "a", "split": 5}, {"until": 5}, {"until": [None]}),
]
TEXT = [
    "a: b\n",
    "  ",
    "- ",
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    ": ",
    "!!int x",
    "!!python/name:os.system ",
    "!function os.system",
]
TEXT += [
    "\t",
    "\n",
    "#",
    "'",
    '"',
    "\ufeff",
    "\u2028",
    "\x00",
    "\x85",
    "%YAML 9",
    "---\n",
    "...",
    "|\n",
    "? ",
    "<<: *a",
    "0x" + "F" * 9999,
]


def mutated(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with one to three of them changed, taken away or added, at any depth."""
    fields = {name: dict(value) if isinstance(value, dict) else value for name, value in fields.items()}
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice([fields, *(value for value in fields.values() if isinstance(value, dict))])
        name = rng.choice([*at, "extra", 5]) if at else "x"
        if rng.random() < 0.15:
            at.pop(name, None)
        else:
            at[name] = rng.choice(ODD)
    return fields


def survives(call: Callable[..., object], *arguments: object) -> None:
    """Nothing but the project's own error, whose message can be written as UTF-8."""
    message = ""
    try:
        call(*arguments)
    except TaskError as error:
        message = str(error)
    assert message.encode() is not None


def first_sample(name: str, tokenizer: Any) -> None:
    generator = find_generator(resolve(name).config, tokenizer)
    assert generator is not None
    generator.check()
    generator.sample(0)


def test_no_task_file_ends_in_anything_but_a_task_error(tmp_path: Path, tokenizer: Any) -> None:
    rng = random.Random(7)
    spec = {**SPEC, "lengths": [700], "keys": 1, "values": 1, "distractors": 0, "depths": "uniform", "scoring": "all"}
    spec |= {"samples": 3, "seed": 1, "opening": "", "queries": 1}
    del spec["length"]
    whole = {
        "include": str(BASE),
        "task": "mine",
        "metadata": {"version": 1.0, "data": []},
        "generation_kwargs": {"until": [], "max_gen_toks": 40},
    }
    accepted = 0
    for number in range(100):
        if rng.random() < 0.7:
            fields = {**whole, "dataset_kwargs": {"spec": mutated(rng, spec)}}
        else:
            fields = mutated(rng, {**whole, "metric_list": [], "process_docs": "x", "dataset_kwargs": {"spec": spec}})
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(fields, allow_unicode=True))
        found = own.read(file)
        accepted += not found.problems
        for line in found.lines():
            assert line.startswith(f"{file}:")
        own.known().clear()
        survives(first_sample, f"{file}@300", tokenizer)
    assert accepted >= 3  # or nothing is tested behind the first check


def test_no_text_ends_in_anything_but_a_task_error(tmp_path: Path) -> None:
    rng = random.Random(8)
    file = tmp_path / "odd.yaml"
    for _ in range(100):
        text = "".join(rng.choice(TEXT) for _ in range(rng.randint(1, 12)))
        file.write_bytes(text.encode() if rng.random() < 0.9 else rng.randbytes(20))
        assert own.read(file).problems
        survives(load_suite, file)


def test_no_suite_ends_in_anything_but_a_task_error(tmp_path: Path) -> None:
    rng = random.Random(9)
    file = tmp_path / "suite.yaml"
    column = {"task": "niah_single_1", "length": 512, "metric": "acc", "label": "x", "group": "g", "samples": 5}
    suite = {"suite": "s", "description": "d", "protocol": {"seed": 42, "shots": 0, "context_prefix": "none"}}
    for _ in range(80):
        fields = mutated(rng, {**suite, "averages": [], "columns": [mutated(rng, column)]})
        file.write_text(yaml.safe_dump(fields, allow_unicode=True))
        survives(load_suite, file)


def test_no_list_or_text_ends_in_anything_but_a_task_error(tmp_path: Path) -> None:
    rng = random.Random(10)
    pieces = [
        b"\xef\xbb\xbf",
        b"Bern\n",
        b"\xff",
        "São\u2028Paulo\r\n".encode(),
        b"\0",
        b'{"text": "x"}\n',
        b"{",
        b"[" * 5000,
        b'{"text": "\\ud800"}',
    ]
    for _ in range(60):
        content = b"".join(rng.choice(pieces) for _ in range(rng.randint(0, 5)))
        for name in ("list.txt", "rows.jsonl", "rows.parquet"):
            (tmp_path / name).write_bytes(content)
        parse_kind({"kind": "file", "path": "list.txt"}, tmp_path)
        for name in ("list.txt", "rows.jsonl", "rows.parquet"):
            source = parse_source({"file": name}, tmp_path)
            assert not isinstance(source, list)
            read_text.cache_clear()
            survives(read_text, source)
