"""The evaluation harness: from a checkpoint and lm-eval tasks to records and tables.

It reaches a task through its YAML only, and a model through its forward pass and its state: what is inside a layer is
known to `gdn2` alone. `docs/architecture.md` has the rooms and the way down through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from harness.runs.listener import Listener
    from harness.runs.runner import RunResult

__all__ = ["run"]


def run(checkpoint: str | Path, *, listener: Listener | None = None, **options: Any) -> RunResult:
    """Evaluate a checkpoint, as `run_eval.py run` does, without printing anything.

    Args:
        checkpoint: a folder, a `.pth`, or a name of the zoo.
        listener: hears how the run goes (`harness.runs.listener.Listener`); nobody by default.
        **options: further fields of `harness.runs.options.RunOptions`, such as `tasks=("niah_single_1@1024",)`,
            `samples=20` or `output=Path("results/runs")`.

    Returns:
        The record, and the folder that holds it.

    Raises:
        UserError: whatever the user can mend: names, options, data, the checkpoint. What is finished is kept, and the
            same call goes on from there.
        TypeError: an option that does not exist.

    Example:
        >>> import harness
        >>> done = harness.run("gdn2-tiny", tasks=("niah_single_1@1024",), samples=20)
        >>> done.record.cells[0].scores["acc"].value
    """
    from harness.runs.options import RunOptions
    from harness.runs.runner import run_options

    return run_options(RunOptions(**{"checkpoint": checkpoint, **options}), listener)
