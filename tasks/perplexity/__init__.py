"""Tasks that score text itself."""
