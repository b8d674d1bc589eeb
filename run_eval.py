"""Evaluate checkpoints of recurrent language models: `python run_eval.py --help`."""

import sys

from harness.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
