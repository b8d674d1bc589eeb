"""The evaluation harness: from a checkpoint and lm-eval tasks to records and tables.

It reaches a model only through the lm-eval interface and a task only through its YAML; no layer's inside is known here.
"""
