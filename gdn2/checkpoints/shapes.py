"""The tensors that a configuration asks for, worked out before anything is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from gdn2.checkpoints.errors import CheckpointError, first_line
from gdn2.checkpoints.tensors import Stored
from gdn2.config import GDN2Config
from gdn2.model import GDN2ForCausalLM

SHOWN = 200  # characters of what torch says


def model_shapes(config: GDN2Config, stored: Mapping[str, Stored], where: Path) -> dict[str, tuple[int, ...]]:
    """Tell the shape of every tensor of a model, in its order; nothing is allocated.

    Args:
        config: the model.
        stored: the tensors that are to fill it; a model with more layers than these is not built.
        where: the file with the configuration, for messages.

    Raises:
        CheckpointError: more layers than tensors, or sizes beyond every machine.
    """
    if config.num_hidden_layers > len(stored):
        raise CheckpointError(
            f"{where}: num_hidden_layers is {config.num_hidden_layers:,}, but there are only {len(stored):,} tensors; "
            "the weights are not whole, or the field is wrong"
        )
    try:
        with torch.device("meta"):
            model = GDN2ForCausalLM(config)
    except (RuntimeError, OverflowError, MemoryError, TypeError) as error:
        raise CheckpointError(f"{where}: no model can have such sizes ({first_line(error)[:SHOWN]})") from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
