"""`gdn2-lm-eval`: lm-eval's own command line with the model "gdn2" and this project's tasks.

lm-eval looks for no plug-ins, so a model from outside exists only in a process that imported it.
"""

from __future__ import annotations


def main() -> None:
    """Register the model, then hand over to lm-eval."""
    from lm_eval.__main__ import cli_evaluate

    import harness.lm.model  # noqa: F401

    cli_evaluate()


if __name__ == "__main__":
    main()
