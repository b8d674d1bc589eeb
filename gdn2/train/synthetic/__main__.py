"""`python -m gdn2.train.synthetic --out FOLDER`: a worker that trains the runs it is told, one a line of JSON.

Lines of JSON on standard output say how each goes; it ends with its standard input.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from basis.arguments import Parser
from basis.errors import UserError, reason
from basis.files import parse_json
from gdn2.train.heap import keep_freed_memory
from gdn2.train.synthetic.fit import fit
from gdn2.train.synthetic.spec import Run, read_run


def main(arguments: list[str] | None = None) -> int:
    """Train the runs of standard input; returns the exit status.

    Args:
        arguments: by default the process's, which then keeps the memory that it frees.
    """
    parser = Parser(prog="python -m gdn2.train.synthetic", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, a file a run")
    parser.add_argument("--device", default="cpu", help="as PyTorch names it (default: cpu)")
    parser.add_argument("--together", type=int, default=1, help="runs at a time (default: 1)")
    try:
        args = parser.parse_args(arguments)
        try:
            args.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {args.out}: cannot be used as a folder ({reason(error)})") from error
        if arguments is None and args.device == "cpu":
            keep_freed_memory()
        fit(_Asked(), args.out, args.device, _say, args.together)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


class _Asked:
    """The runs of standard input; a thread reads it, so that training need not wait for the next line."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __call__(self, wait: bool) -> Run | None:
        """The next run; None where no line is there yet, or, after waiting, where the input has ended."""
        try:
            line = self._lines.get(block=wait)
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            return None
        return read_run(parse_json(line, "standard input"), Path("standard input"))

    def _read(self) -> None:
        for line in sys.stdin:
            if line.strip():
                self._lines.put(line)
        self._lines.put(None)


def _say(entry: dict[str, Any]) -> None:
    print(json.dumps(entry), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
