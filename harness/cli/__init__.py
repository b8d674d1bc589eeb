"""The command line: one command group a file. Each parses its arguments, calls, and prints by `harness.show`."""
