"""`gdn2-lm-eval`: lm-eval's own command line with the model "gdn2" and this project's tasks.

lm-eval looks for no plug-ins, so a model from outside exists only in a process that imported it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from basis.errors import UserError, reason
from harness.cli.main import DEBUG_VARIABLE

MISTAKE = 2  # the exit code, as run_eval.py's


def main() -> None:
    """Register the model, then hand over to lm-eval; what a user can mend is one line and exit code 2.

    Raises:
        SystemExit: with the exit code, if it is not 0.
    """
    from lm_eval.__main__ import cli_evaluate

    import harness.lm.model  # noqa: F401
    from harness.engine.threads import choose_threads

    if note := choose_threads():
        print(note, file=sys.stderr)
    try:
        cli_evaluate()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE) or not (isinstance(error, UserError) or _refused_by_lm_eval(error)):
            raise
        print(f"error: {reason(error)}", file=sys.stderr)
        sys.exit(MISTAKE)


def _refused_by_lm_eval(error: Exception) -> bool:
    """Whether lm-eval itself raised it about what was asked, such as a task or a model that it does not know."""
    import lm_eval

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = Path(trace.tb_frame.f_code.co_filename) if trace is not None else Path()
    inside = Path(lm_eval.__file__).parent in raised_in.parents
    return inside and isinstance(error, (ValueError, OSError, ImportError))


if __name__ == "__main__":
    main()
