"""Pictures: one a file, drawn from values that `harness.analysis` prepares. Only here is matplotlib imported."""
