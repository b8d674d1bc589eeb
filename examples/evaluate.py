"""Evaluate a checkpoint from Python and print its cells.

    python examples/evaluate.py [CHECKPOINT] [TASK ...]

The same as `python run_eval.py run CHECKPOINT --tasks ... --samples 4`, without a line on the terminal: the record
comes back as a value. The result folder is the same, and a call that was interrupted goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import harness


def main(checkpoint: str = "gdn2-tiny", tasks: Sequence[str] = ("niah_single_1@512",), samples: int = 4) -> None:
    """Run the tasks and print a line for each score."""
    done = harness.run(checkpoint, tasks=tuple(tasks), samples=samples, output=Path("results/runs"))
    print(f"{done.record.name}, protocol {done.record.protocol_hash[:8]}, in {done.folder}")
    for cell in done.record.cells:
        for metric, score in cell.scores.items():
            interval = "" if score.low is None else f"{score.low:.3f} to {score.high:.3f}, "
            print(f"{cell.protocol.label}  {metric} {score.value:.3f} ({interval}n={score.n})")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(given[0] if given else "gdn2-tiny", given[1:] or ["niah_single_1@512"])
