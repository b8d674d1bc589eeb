"""`python -m gdn2.train.synthetic --out FOLDER`: a worker that trains the runs it is told, one a line of JSON.

Lines of JSON on standard output say how each goes; it ends with its standard input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from basis.errors import UserError
from gdn2.train.synthetic.fit import fit
from gdn2.train.synthetic.spec import Run, read_run


def main(arguments: list[str] | None = None) -> int:
    """Train the runs of standard input; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gdn2.train.synthetic", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, a file a run")
    parser.add_argument("--device", default="cpu", help="as PyTorch names it (default: cpu)")
    args = parser.parse_args(arguments)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        fit(_asked(), args.out, args.device, _say)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _asked() -> Iterator[Run]:
    for line in sys.stdin:
        if line.strip():
            yield read_run(json.loads(line), Path("standard input"))


def _say(entry: dict[str, Any]) -> None:
    print(json.dumps(entry), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
