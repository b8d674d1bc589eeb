"""A small trainer for the checkpoints of the zoo: `python -m gdn2.train RECIPE.yaml`."""
