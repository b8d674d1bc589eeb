"""Checkpoints as users name them: finding, importing, inspecting and checking them."""
