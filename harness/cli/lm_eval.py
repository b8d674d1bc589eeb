"""`gdn2-lm-eval`: lm-eval's own command line with the model "gdn2" and this project's tasks.

lm-eval looks for no plug-ins, so a model from outside exists only in a process that imported it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from basis.errors import UserError, reason
from harness.cli.lm_eval_files import first_mistake
from harness.cli.main import DEBUG_VARIABLE

MISTAKE = 2  # the exit code, as run_eval.py's


def main() -> None:
    """Register the model, then hand over to lm-eval; what a user can mend is one line and exit code 2.

    Raises:
        SystemExit: with the exit code, if it is not 0.
    """
    from lm_eval.__main__ import cli_evaluate

    import harness.lm.model  # noqa: F401
    from basis.signals import ends_by_interrupt
    from harness.engine.threads import choose_threads

    if note := choose_threads():
        print(note, file=sys.stderr)
    try:
        with ends_by_interrupt():
            cli_evaluate()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        mistake = first_mistake(sys.argv[1:]) if _is_raised_by_lm_eval(error) else None
        is_mendable = isinstance(error, UserError) or mistake or _refused_by_lm_eval(error)
        if os.environ.get(DEBUG_VARIABLE) or not is_mendable:
            raise
        said = [] if isinstance(error, KeyError) and mistake else [reason(error)]
        print(f"error: {'; '.join([*said, mistake] if mistake else said)}", file=sys.stderr)
        sys.exit(MISTAKE)


def _refused_by_lm_eval(error: Exception) -> bool:
    """Whether lm-eval itself raised it about what was asked, such as a task or a model that it does not know."""
    return _is_raised_by_lm_eval(error) and isinstance(error, (ValueError, OSError, ImportError))


def _is_raised_by_lm_eval(error: Exception) -> bool:
    """Whether lm-eval's own code raised it."""
    import lm_eval

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = Path(trace.tb_frame.f_code.co_filename) if trace is not None else Path()
    return Path(lm_eval.__file__).parent in raised_in.parents


if __name__ == "__main__":
    main()
