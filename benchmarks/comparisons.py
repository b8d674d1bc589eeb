"""The statistics of `compare` by simulation: false positives on models that are alike, coverage, power.

    python benchmarks/comparisons.py [--repeats 2000] [--json FILE]

Every figure goes through the functions that `compare` calls; of false positives there are four times as many
simulations. Takes about ten minutes on one core; the figures go to
`benchmarks/results/{date}_comparisons.json`.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import command_line
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.analysis.comparison import ALPHA
from harness.analysis.measure import compare_groups, compare_pairs, group_of_terms
from harness.analysis.pairing import Pairs, Term
from harness.analysis.power import detectable_share
from harness.analysis.seeds import compare_values
from harness.analysis.significance import holm, sign_flip
from harness.records.machine import describe
from tasks.metrics import Unit

RESULTS = Path(__file__).resolve().parent / "results"
Floats = NDArray[np.float64]
Row = dict[str, Any]
CELLS = 14
"""Of a grid, as the needle table has."""


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--repeats", type=command_line.positive, default=2000, help="simulations of each row; a fifth where it draws"
    )
    today = datetime.datetime.now(datetime.timezone.utc).date()
    parser.add_argument("--json", type=command_line.new_file, default=RESULTS / f"{today}_comparisons.json")
    args = parser.parse_args()
    parts = {"false positives": false_positives, "exchanges": exchanges, "coverage": coverage, "power": power}
    more = {"false positives": 4, "exchanges": 20}
    found = {name: part(args.repeats * more.get(name, 1)) for name, part in parts.items()}
    for name, rows in found.items():
        draw(name, rows)
    report = {"command": f"benchmarks/comparisons.py --repeats {args.repeats}", "date": str(today)}
    args.json.write_text(json.dumps({**report, "machine": describe().as_dict(), **found}, indent=2) + "\n")


def false_positives(repeats: int) -> list[Row]:
    """How often models that are alike are told apart: in any cell of a grid, and by the mean over its cells."""
    rng = np.random.default_rng(1)
    found = []
    for name, models, samples, group, graded in (
        ("right and wrong", 2, 100, 1, False),
        ("right and wrong, 3 models", 3, 100, 1, False),
        ("right and wrong, 500 samples", 2, 500, 1, False),
        ("4 questions a text", 2, 100, 4, False),
        ("graded scores", 2, 100, 1, True),
        ("graded scores, 4 questions a text", 2, 100, 4, True),
    ):
        any_cell = any_mean = naive = 0
        for _ in range(repeats):
            scores = [alike(rng, models, samples, group, graded) for _ in range(CELLS)]
            differences = [
                [by_group(cell[a] - cell[b], group) for cell in scores] for a in range(models) for b in range(a)
            ]
            any_cell += rejects([sign_flip(cell) for pair in differences for cell in pair])
            any_mean += rejects([sign_flip(np.concatenate(pair) / samples) for pair in differences])
            single = [sign_flip(cell[a] - cell[b]) for a in range(models) for b in range(a) for cell in scores]
            naive += rejects(single)
        row = {"models": name, "any cell": any_cell / repeats, "mean": any_mean / repeats}
        found.append(row | ({"any cell, texts ignored": naive / repeats} if group > 1 else {}))
    return [*found, *unpaired_false_positives(repeats, rng), seeds_false_positives(repeats, rng)]


def exchanges(repeats: int) -> list[Row]:
    """How often the test finds something where nothing but signs is drawn: its level, with little noise."""
    rng = np.random.default_rng(5)
    differences = [by_group(np.subtract(*alike(rng, 2, 100, 4, True)), 4) for _ in range(50)]
    found = sum(sign_flip(differences[draw % 50] * rng.choice([-1.0, 1.0], 25)) <= ALPHA for draw in range(repeats))
    return [{"models": "graded scores, 4 questions a text", "a cell alone": found / repeats, "simulations": repeats}]


def alike(
    rng: np.random.Generator, models: int, samples: int, group: int, graded: bool, level: float | None = None
) -> Floats:
    """Scores of models that are alike, [models, samples].

    A text is easier for one model than for another by chance, for all its questions together; shuffling models text by
    text makes them alike.
    """
    texts = samples // group
    ease = rng.normal(rng.uniform(-2, 3) if level is None else level, 1.5, (1, texts, 1)) + rng.normal(
        0, 1.5, (models, texts, 1)
    )
    chance = 1 / (1 + np.exp(-(ease + rng.normal(0, 0.7, (1, texts, group)))))
    scores = rng.binomial(4, chance) / 4 if graded else rng.binomial(1, chance).astype(float)
    order = rng.permuted(np.tile(np.arange(models)[:, None], texts), axis=0)
    return np.asarray(np.take_along_axis(scores, order[:, :, None], axis=0).reshape(models, samples), dtype=float)


def unpaired_false_positives(repeats: int, rng: np.random.Generator) -> list[Row]:
    """Models that are alike on samples that they do not share."""
    rows = []
    for name, group, graded in (("unpaired, right and wrong", 1, False), ("unpaired, 4 questions a text", 4, False)):
        count = 0
        for _ in range(repeats):
            tests = []
            for _ in range(CELLS):
                level = rng.uniform(-2, 3)
                of_a, of_b = (group_of(alike(rng, 1, 100, group, graded, level)[0], group) for _ in range(2))
                tests.append(compare_groups(of_a, of_b, "share", ALPHA).get("p"))
            count += rejects(tests)
        rows.append({"models": name, "any cell": count / repeats})
    return rows


def seeds_false_positives(repeats: int, rng: np.random.Generator) -> Row:
    """Trainings that are alike: seeds that differ by 2 points, three a side."""
    count = 0
    for _ in range(repeats):
        values = rng.normal(0.6, 0.02, (2, CELLS, 3))
        count += rejects([compare_values(a, b, ALPHA).get("p") for a, b in zip(*values.tolist(), strict=True)])
    return {"models": "3 seeds a side", "any cell": count / repeats}


def coverage(repeats: int) -> list[Row]:
    """How often the 95 % interval holds the true difference."""
    rng = np.random.default_rng(2)
    rows = []
    for samples in (20, 50, 100, 500):
        for share_a, share_b, together in SHARES:
            chances = table_of(share_a, share_b, together)
            held = 0
            for _ in range(repeats):
                both, only_a, only_b, neither = rng.multinomial(samples, chances)
                a = np.repeat([1.0, 1.0, 0.0, 0.0], [both, only_a, only_b, neither])
                b = np.repeat([1.0, 0.0, 1.0, 0.0], [both, only_a, only_b, neither])
                held += holds(pairs_of(a, b, np.ones(samples), 1), "share", chances[1] - chances[2])
            rows.append(
                {"what": f"right and wrong, {share_a:.0%} and {share_b:.0%}, correlation {together:g}"}
                | {"samples": samples, "groups": samples, "held": held / repeats}
            )
    for name, unit, group, make in GROUPED:
        for groups in (10, 25, 100):
            times = max(repeats // 5, 1)
            truth = truth_of(make, unit, group, np.random.default_rng(3))
            held = sum(holds(pairs_of(*make(rng, groups, group), group), unit, truth) for _ in range(times))
            rows.append({"what": name, "samples": groups * group, "groups": groups, "held": held / times})
    return rows


def power(repeats: int) -> list[Row]:
    """How often the stated smallest difference is found, if it is the true one."""
    rng = np.random.default_rng(4)
    rows = []
    for samples in (50, 100, 500):
        for discordant in (0.0, 0.1, 0.3):
            for alpha in (ALPHA, ALPHA / CELLS):
                smallest = detectable_share(samples, discordant, alpha)
                if smallest is None:
                    continue
                apart = max(discordant, smallest)
                wins = (apart + smallest) / 2
                drawn = rng.multinomial(samples, [wins, apart - wins, 1 - apart], size=repeats)
                found = sum(sign_flip(np.repeat([1.0, -1.0, 0.0], each)) <= alpha for each in drawn)
                rows.append(
                    {"samples": samples, "discordant": discordant, "alpha": round(alpha, 4)}
                    | {"smallest difference": round(smallest, 4), "power": found / repeats}
                )
    return rows


SHARES = (
    *((0.5, 0.5, 0.0), (0.5, 0.5, 0.8), (0.9, 0.8, 0.5), (0.99, 0.95, 0.3)),
    *((1.0, 1.0, 0.0), (1.0, 0.97, 0.0), (0.3, 0.25, 0.9)),
)


def grouped_right(rng: np.random.Generator, groups: int, group: int) -> tuple[Floats, Floats, Floats]:
    """Right and wrong answers, 80 and 70 %, with what a text does to each model."""
    own = rng.normal(0, 1.5, (2, groups, 1)) + rng.normal(0, 1, (1, groups, 1))
    chance = 1 / (1 + np.exp(-(np.array([2.2, 1.3])[:, None, None] + own)))
    a, b = rng.binomial(1, np.broadcast_to(chance, (2, groups, group))).reshape(2, -1).astype(float)
    return a, b, np.ones(groups * group)


def grouped_scores(rng: np.random.Generator, groups: int, group: int) -> tuple[Floats, Floats, Floats]:
    """Scores from 0 to 1 in quarters."""
    own = rng.normal(0, 1, (2, groups, 1)) + rng.normal(0, 1, (1, groups, 1))
    chance = 1 / (1 + np.exp(-(np.array([0.8, 0.3])[:, None, None] + own)))
    a, b = rng.binomial(4, np.broadcast_to(chance, (2, groups, group))).reshape(2, -1) / 4
    return a, b, np.ones(groups * group)


def texts(rng: np.random.Generator, groups: int, group: int) -> tuple[Floats, Floats, Floats]:
    """Nats of documents of very different sizes."""
    words = np.ceil(rng.lognormal(5, 0.8, groups * group))
    own = rng.normal(0, 0.3, groups * group)
    a, b = (words * (mean + own + rng.normal(0, 0.1, groups * group)) for mean in (3.0, 3.05))
    return a, b, words


Maker = Callable[[np.random.Generator, int, int], tuple[Floats, Floats, Floats]]
GROUPED: tuple[tuple[str, Unit, int, Maker], ...] = (
    ("right and wrong, 4 questions a text", "share", 4, grouped_right),
    ("scores in quarters", "share", 1, grouped_scores),
    ("scores in quarters, 4 questions a text", "share", 4, grouped_scores),
    ("perplexity of documents", "perplexity", 1, texts),
    ("bits of documents", "bits", 1, texts),
)


def table_of(share_a: float, share_b: float, together: float) -> list[float]:
    """Chances of both right, only A, only B, neither."""
    both = share_a * share_b + together * math.sqrt(share_a * share_b * (1 - share_a) * (1 - share_b))
    both = min(both, share_a, share_b)
    return [both, share_a - both, share_b - both, max(0.0, 1 - share_a - share_b + both)]


def truth_of(make: Maker, unit: Unit, group: int, rng: np.random.Generator) -> float:
    """The true difference, of very many groups."""
    a, b, weights = make(rng, 400_000, group)
    ratios = a.sum() / weights.sum(), b.sum() / weights.sum()
    return float(math.exp(ratios[0]) - math.exp(ratios[1]) if unit == "perplexity" else ratios[0] - ratios[1])


def holds(pairs: Pairs, unit: Unit, truth: float) -> bool:
    """Whether the interval of a comparison holds the truth."""
    found, _ = compare_pairs(pairs, unit, True, ALPHA)
    return bool(found["low"] is not None and found["low"] - 1e-9 <= truth <= found["high"] + 1e-9)


def pairs_of(a: Floats, b: Floats, weights: Floats, group: int) -> Pairs:
    """Samples, so many of them about each text."""
    names = np.char.mod("t%07d", np.arange(len(a)) // group)
    return Pairs("sample", a, b, weights, names.tolist(), 0, 0, 0)


def group_of(scores: Floats, group: int) -> Any:
    """One side's number of samples that are not paired."""
    made = group_of_terms(
        [Term(f"{i}", f"{i // group}", score, 1.0) for i, score in enumerate(scores.tolist())], "share"
    )
    assert made is not None
    return made[0]


def by_group(differences: Floats, group: int) -> Floats:
    return np.asarray(differences.reshape(-1, group).sum(axis=1), dtype=float)


def rejects(values: Sequence[float | None]) -> bool:
    """Whether any of these tests finds something after the correction."""
    return any(value is not None and value <= ALPHA for value in holm(values))


def draw(name: str, rows: list[Row]) -> None:
    table = Table(title=name)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(f"{value:.3f}" if isinstance(value := row.get(column, ""), float) else str(value) for column in columns)
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    command_line.answer(main)
