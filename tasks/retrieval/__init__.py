"""Tasks whose answer is in the context."""
