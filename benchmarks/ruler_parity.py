"""Our `nvidia-26.3` and `lm-eval` beside the code they are equal to, sample by sample, as a Markdown table.

    python benchmarks/ruler_parity.py --wheel WHEEL [--tokenizer regex] [--lengths 1024,4096] [--samples 50] [--tasks …]
    python benchmarks/ruler_parity.py --wheel WHEEL --write tests/data/ruler_hashes.json

WHEEL is the unpacked wheel (benchmarks/ruler_official.py says how to get it); without it only lm-eval is compared. The
tokenizer is a folder, or `regex` (words and signs). `--write` records hashes on the tests' small data instead.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import command_line  # noqa: E402
from ruler_lm_eval import lm_eval_samples  # noqa: E402
from ruler_official import count_regex, run_script  # noqa: E402

from tasks.errors import TaskError  # noqa: E402
from tasks.ruler.generators import DEFAULT_SEEDS  # noqa: E402
from tasks.ruler.official.generator import draws  # noqa: E402
from tasks.ruler.spec import VARIANTS, RulerSpec  # noqa: E402
from tasks.ruler.templates import OTHER_TASKS  # noqa: E402
from tasks.text.pieces import piece_counter  # noqa: E402
from tasks.text.tokenizers import load_tokenizer  # noqa: E402

TASKS = (*VARIANTS, *OTHER_TASKS)
COMPARED = ("nvidia-26.3", "lm-eval")
HASHED_SAMPLES = 5
HASHED_LENGTHS = {"qa_2": (2048,)}
HASHED_DEFAULT = (1024, 4096)
HASHED_WORDS = 500
"""Words of each list for the older generator's hashes; with all of them each cell takes a minute."""
Sample = tuple[str, list[str]]


def ours(generator: str, task: str, length: int, samples: int, count: Callable[[str], int]) -> list[Sample]:
    """What this project draws."""
    spec = RulerSpec.parse({"task": task, "length": length, "generator": generator, "seed": DEFAULT_SEEDS[generator]})
    drawn = itertools.islice(draws(spec, count), samples)
    return [(one.prompt, list(one.outputs)) for one, _ in drawn if one is not None]


def theirs(
    generator: str,
    task: str,
    length: int,
    samples: int,
    *,
    wheel: Path | None,
    tokenizer: str,
    most_words: int | None = None,
) -> list[Sample]:
    """What the original makes."""
    if generator == "lm-eval":
        return lm_eval_samples(task, length, samples, counter(tokenizer, special=True))
    assert wheel is not None
    records, _ = run_script(wheel, task, length, samples=samples, tokenizer=tokenizer, most_words=most_words)
    return [(record["input"], record["outputs"]) for record in records]


def counter(tokenizer: str, *, special: bool) -> Callable[[str], int]:
    """Tokens of a text by this tokenizer, with or without special tokens."""
    if tokenizer == "regex":
        return count_regex
    import gdn2  # noqa: F401 (transformers then knows the config beside the tokenizer)

    loaded: Any = load_tokenizer(tokenizer)
    added = len(loaded("a").input_ids) - len(loaded.encode("a", add_special_tokens=False)) if special else 0
    count = piece_counter(loaded).count
    return lambda text: count(text) + added


def digest(samples: Sequence[Sample]) -> str:
    """Of prompts and answers: 16 hex digits."""
    records = ("\x1f".join([prompt, *outputs]) for prompt, outputs in samples)
    return hashlib.sha256("\x1e".join(records).encode()).hexdigest()[:16]


def compare(arguments: argparse.Namespace) -> None:
    """Print a row for each generator and task."""
    print("| generator | tokenizer | task | lengths | samples compared | differences |")
    print("| --- | --- | --- | --- | ---: | ---: |")
    generators = COMPARED if arguments.wheel else ["lm-eval"]
    for generator, task in itertools.product(arguments.generators or generators, arguments.tasks):
        count = counter(arguments.tokenizer, special=generator == "lm-eval")
        compared = differences = 0
        lengths, notes = [], []
        for length in arguments.lengths:
            try:
                mine = ours(generator, task, length, arguments.samples, count)
            except TaskError as error:  # the original would never end
                notes.append(f"{length}: {error}")
                continue
            other = theirs(
                generator, task, length, arguments.samples, wheel=arguments.wheel, tokenizer=arguments.tokenizer
            )
            compared += max(len(mine), len(other))
            differences += abs(len(mine) - len(other)) + sum(a != b for a, b in zip(mine, other, strict=False))
            lengths.append(str(length))
        name = Path(arguments.tokenizer).name
        print(f"| {generator} | {name} | {task} | {', '.join(lengths)} | {compared} | {differences} |", flush=True)
        for note in notes:
            print(f"  not compared: {note}", file=sys.stderr, flush=True)


def write(arguments: argparse.Namespace) -> None:
    """Record hashes of what the originals make of the tests' small data."""
    from ruler_data import write_ruler_data

    with tempfile.TemporaryDirectory(prefix="gdn2-parity-") as folder:
        small = write_ruler_data(Path(folder) / "data")
        os.environ["GDN2_DATA"] = str(small)
        wheel = Path(folder) / "wheel"
        shutil.copytree(arguments.wheel, wheel, ignore=shutil.ignore_patterns("json", "*.whl"))
        target = wheel / "long_context_eval" / "data" / "synthetic" / "json"
        target.mkdir()
        for name, original in (("essays", "PaulGrahamEssays"), ("squad", "squad"), ("hotpotqa", "hotpotqa")):
            shutil.copy(small / f"{name}.json", target / f"{original}.json")
        found: dict[str, dict[str, dict[str, str]]] = {}
        for generator, task in itertools.product(COMPARED, TASKS):
            for length in HASHED_LENGTHS.get(task, HASHED_DEFAULT):
                most = HASHED_WORDS if generator == "nvidia-26.3" else None
                samples = theirs(
                    generator, task, length, HASHED_SAMPLES, wheel=wheel, tokenizer="regex", most_words=most
                )
                found.setdefault(generator, {}).setdefault(task, {})[str(length)] = digest(samples)
                print(generator, task, length, flush=True)
    arguments.write.parent.mkdir(parents=True, exist_ok=True)
    arguments.write.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Parse and run."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--wheel", type=command_line.wheel)
    parser.add_argument("--tokenizer", default="regex")
    parser.add_argument("--lengths", type=command_line.positives, default=[1024, 4096])
    parser.add_argument("--samples", type=command_line.positive, default=50)
    parser.add_argument("--tasks", type=command_line.some_of(TASKS), default=list(TASKS))
    parser.add_argument("--generators", type=command_line.some_of(COMPARED))
    parser.add_argument("--write", type=command_line.new_file)
    arguments = parser.parse_args()
    asked = arguments.generators or ()
    if arguments.wheel is None and (arguments.write or "nvidia-26.3" in asked):
        parser.error("--wheel is needed")
    if arguments.write:
        write(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    command_line.answer(main)
