"""The trainer: `python -m gdn2.train RECIPE.yaml`, on a CPU, a GPU, or several by torchrun (docs/train.md)."""
