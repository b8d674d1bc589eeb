"""Tasks as lm-eval YAML, with one Python module per task family.

Documents are drawn here and answers are scored here. Nothing in this package knows a model or the harness.
`tasks.registry` names everything that can be run and imports nothing heavy.
"""
