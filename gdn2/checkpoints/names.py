"""Names of tensors as trainers leave them: what wrappers put into them, and buffers, which are no weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What compiling, sharding and checkpointing put between the parts of a name, and data parallelism before all.
INSIDE = re.compile(r"(?:(?<=\.)|^)(?:_forward_module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
BEFORE = "module."
TRAINER = "model."  # a trainer's own attribute, where what follows is a whole model's name
WHOLE = ("model.", "backbone.", "transformer.", "lm_head.")
BUFFER = re.compile(
    r"(?:^|\.)(?:position_ids|rotary(?:_emb)?\.(?:inv_freq|original_inv_freq|cos_cached|sin_cached|cos|sin|freqs)"
    r"|rope\.(?:inv_freq|freqs|cache)|rope_cache|mask_cache|cos_cached|sin_cached)$"
)


def is_buffer(name: str) -> bool:
    """Say whether a tensor is a table that the model's code makes itself: position ids, rotary caches."""
    return BUFFER.search(name) is not None


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Take what wrappers add off the names of a model's tensors.

    Args:
        names: of all tensors, since "module." and "model." are a wrapper's only where every name begins so.

    Returns:
        Each name with its plain one.
    """
    plain = {name: INSIDE.sub("", name) for name in names}
    while plain and all(name.startswith(BEFORE) for name in plain.values()):
        plain = {name: INSIDE.sub("", inner.removeprefix(BEFORE)) for name, inner in plain.items()}
    if plain and all(name.startswith(TRAINER) for name in plain.values()):
        inner = {name: one.removeprefix(TRAINER) for name, one in plain.items()}
        if any(one.startswith(WHOLE) for one in inner.values()):
            plain = inner
    return plain
