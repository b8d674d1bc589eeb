"""Options from Python and from files: of the right type, or named in one line before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.runs.options import RunOptions


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"checkpoint": None}, "CHECKPOINT must be text, got None"),
        ({"samples": "3"}, "--samples must be a whole number, got '3'"),
        ({"samples": 1.5}, "--samples must be a whole number, got 1.5"),
        ({"samples": True}, "--samples must be a whole number, got True"),
        ({"seed": "a"}, "--seed must be a whole number, got 'a'"),
        ({"workers": None}, "--workers must be a whole number, got None"),
        ({"suite": 3}, "--suite must be text, got 3"),
        ({"tasks": None}, "--tasks must be a list of texts, got None"),
        ({"tasks": (3,)}, "--tasks must be text, got 3"),
        ({"settings": {"a": 1}}, "--set must be a list of texts, got {'a': 1}"),
        ({"output": 3}, "--output must be a path, got 3"),
        ({"output": ""}, "--output: must not be empty"),
        ({"stop_at_references": "yes"}, "--stop-at-references must be true or false, got 'yes'"),
    ],
)
def test_options_of_the_wrong_type_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        RunOptions(**{"checkpoint": "a", **wrong})
    assert str(caught.value) == named


def test_a_path_is_as_good_as_its_text() -> None:
    given = RunOptions(checkpoint=Path("a"), suite=Path("s.yaml"), tasks=[Path("t.yaml"), "u"], output="o")  # type: ignore[arg-type]
    assert given == RunOptions(checkpoint="a", suite="s.yaml", tasks=("t.yaml", "u"), output=Path("o"))
    assert RunOptions(checkpoint="a", tasks=Path("t,u.yaml")).tasks == ("t,u.yaml",)  # type: ignore[arg-type]
