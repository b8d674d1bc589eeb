"""Our `nvidia` beside NVIDIA's own draws of needles at lengths for which no hashes were recorded, as a Markdown table.

    python benchmarks/ruler_nvidia.py --wheel WHEEL [--lengths 16384,131072] [--samples 3] [--tasks …]

NVIDIA/RULER's present script draws a needle sample as the older one in the wheel does; what it changed is the search
for a size. So the wheel's function draws, and the search below, written from a description of the present one, says how
much; tokens are counted by a regular expression. WHEEL: benchmarks/ruler_official.py says how to get it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import command_line  # noqa: E402
from ruler_official import count_regex, load_script  # noqa: E402

from basis.children import end_with  # noqa: E402
from tasks.ruler.official.generator import draws  # noqa: E402
from tasks.ruler.spec import VARIANTS, RulerSpec  # noqa: E402

GENERATED = 128
Draw = Callable[[int], tuple[str, list[str]]]


def searched(draw: Draw, length: int, step: int, samples: int) -> list[tuple[str, list[str]]]:
    """Samples of the present script: a bisection, each probe a draw, then steps back from what is too long."""

    def tokens(text: str) -> int:
        return count_regex(text) + GENERATED

    low, size = step, step
    high = max(int(length / (count_regex(draw(step)[0]) / step) * 3), 2 * step)
    while low <= high:
        middle = (low + high) // 2
        if tokens(draw(middle)[0]) <= length:
            size, low = middle, middle + 1
        else:
            high = middle - 1
    found = []
    for _ in range(samples):
        used = size
        while tokens((sample := draw(used))[0]) > length:
            used -= step if used > step else 0
        found.append(sample)
    return found


def _child(wheel: str, task: str, length: int, samples: int) -> None:
    script = load_script(Path(wheel), task, length, samples=samples, folder=".")
    step = 500 if VARIANTS[task].haystack == "essay" else 25 if length >= 4096 else 5
    print("\n" + json.dumps(searched(script["generate_input_output"], length, step, samples)))


def theirs(wheel: Path, task: str, length: int, samples: int) -> list[Any]:
    """What NVIDIA's draws give, made in a process of its own: its random state is global."""
    options = json.dumps([str(wheel), task, length, samples])
    command = [sys.executable, __file__, "--child", options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Parse and compare."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--wheel", type=command_line.wheel)
    lengths = [16384, 32768, 65536, 131072]
    parser.add_argument("--lengths", type=command_line.positives, default=lengths)
    parser.add_argument("--samples", type=command_line.positive, default=3)
    parser.add_argument("--tasks", type=command_line.some_of(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        end_with(os.getppid())
        _child(*json.loads(arguments.child))
        return
    if arguments.wheel is None:
        parser.error("--wheel is needed")
    print("| task | lengths | samples | differences |\n| --- | --- | ---: | ---: |")
    for task in arguments.tasks:
        differences = 0
        for length in arguments.lengths:
            spec = RulerSpec.parse({"task": task, "length": length, "generator": "nvidia"})
            mine = [one for one, _ in itertools.islice(draws(spec, count_regex), arguments.samples) if one]
            other = theirs(arguments.wheel, task, length, arguments.samples)
            differences += sum([one.prompt, list(one.outputs)] != two for one, two in zip(mine, other, strict=True))
        total = arguments.samples * len(arguments.lengths)
        print(f"| {task} | {', '.join(map(str, arguments.lengths))} | {total} | {differences} |", flush=True)


if __name__ == "__main__":
    command_line.answer(main)
