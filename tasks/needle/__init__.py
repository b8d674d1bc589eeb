"""Retrieval tasks that are a YAML file: needles, questions and haystack as the file says, filled to the token."""
