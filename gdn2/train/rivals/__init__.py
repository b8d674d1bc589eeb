"""Rivals trained alike on text: `python -m gdn2.train.rivals text-4m.yaml`, a recipe for each model and seed."""
