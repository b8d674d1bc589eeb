"""The interval of a mean over places by simulation: does it hold the truth, and does it agree with its own test.

    python benchmarks/comparison_means.py [--repeats 1000] [--json FILE]

Every figure goes through `harness.analysis.means.compare_means`, as `compare` calls it. Takes about half a minute on
one core; the figures go to `benchmarks/results/{date}_comparison_means.json`.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import command_line
import numpy as np

from harness.analysis.comparison import ALPHA, Place, TaskComparison
from harness.analysis.means import compare_means
from harness.analysis.measure import compare_pairs
from harness.analysis.pairing import Pairs
from harness.analysis.places import Compared
from harness.records.machine import describe

RESULTS = Path(__file__).resolve().parent / "results"
MEANS = {  # groups that share text, samples of each, chance of a win and of a loss
    "9 of 40, 3 and 0.5 %": [(40, 1, 0.03, 0.005)] * 9,
    "9 of 40, 15 and 5 %": [(40, 1, 0.15, 0.05)] * 9,
    "8 of 40, 10 texts always tied": [*[(40, 1, 0.03, 0.005)] * 8, (10, 4, 0.0, 0.0)],
    "8 of 40, 10 texts with 10 % losses": [*[(40, 1, 0.03, 0.005)] * 8, (10, 4, 0.0, 0.1)],
    "8 of 40, 10 texts with 20 % wins": [*[(40, 1, 0.03, 0.005)] * 8, (10, 4, 0.2, 0.0)],
    "2 of 20, 30 and 10 %": [(20, 1, 0.3, 0.1)] * 2,
    "4 of 10 texts, 30 and 10 %": [(10, 4, 0.3, 0.1)] * 4,
    "2 of 100, 1 and 0 %": [(100, 1, 0.01, 0.0)] * 2,
}


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--repeats", type=command_line.positive, default=1000, help="simulations of each row")
    today = datetime.datetime.now(datetime.timezone.utc).date()
    parser.add_argument("--json", type=command_line.new_file, default=RESULTS / f"{today}_comparison_means.json")
    args = parser.parse_args()
    rows = coverage_of_means(args.repeats)
    for row in rows:
        print("  ".join(f"{name}: {value}" for name, value in row.items()))
    report = {"command": f"benchmarks/comparison_means.py --repeats {args.repeats}", "date": str(today)}
    args.json.write_text(json.dumps({**report, "machine": describe().as_dict(), "means": rows}, indent=2) + "\n")


def coverage_of_means(repeats: int) -> list[dict[str, Any]]:
    """How often the 95 % interval of a mean over places holds the true one, and contradicts its own test."""
    rng = np.random.default_rng(6)
    rows = []
    for name, places in MEANS.items():
        held = apart = 0
        truth = sum(win - loss for _, _, win, loss in places) / len(places)
        for _ in range(repeats):
            compared = []
            for number, (groups, group, win, loss) in enumerate(places):
                drawn = np.repeat(rng.choice([1.0, -1.0, 0.0], groups, p=[win, loss, 1 - win - loss]), group)
                names = np.array([f"{number}-{place // group}" for place in range(groups * group)])
                a, b = (drawn > 0).astype(np.float64), (drawn < 0).astype(np.float64)
                pairs = Pairs("sample", a, b, np.ones(groups * group), names.tolist(), 0, 0, 0)
                found, parts = compare_pairs(pairs, "share", True, ALPHA)
                task = TaskComparison(place=Place("t", number, "acc"), unit="share", higher_is_better=True, **found)
                compared.append(Compared(task, (parts,)))
            (mean,) = compare_means(compared, None, ALPHA)
            low, high, p = mean.low or 0.0, mean.high or 0.0, 1.0 if mean.p is None else mean.p
            held += low - 1e-9 <= truth <= high + 1e-9
            apart += (low > 0 or high < 0) != (p <= ALPHA)
        rows.append({"places": name, "held": held / repeats, "contradicts its test": apart / repeats})
    return rows


if __name__ == "__main__":
    command_line.answer(main)
