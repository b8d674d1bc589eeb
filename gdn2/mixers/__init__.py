"""Mixers: each makes q, k, v, g, b and w from x and calls the operator. One rival a file, one registry."""

from gdn2.mixers.gdn2 import GatedDeltaNet2

MIXERS = {"gdn2": GatedDeltaNet2}

__all__ = ["MIXERS", "GatedDeltaNet2"]
