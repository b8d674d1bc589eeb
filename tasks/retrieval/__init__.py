"""Tasks whose answer stands in the context."""
