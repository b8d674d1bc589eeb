"""Fresh weights as a recipe asks for them, where that is not what the model's configuration says."""

from __future__ import annotations

import torch
from torch import nn

from gdn2.model import GDN2Block, GDN2ForCausalLM
from gdn2.train.recipe import InitialSpec

LAST = ("o_proj", "out_proj", "down_proj")  # of a mixer or an MLP: what it adds to the residual stream comes from it


@torch.no_grad()
def initialise(model: GDN2ForCausalLM, spec: InitialSpec) -> None:
    """Draw and scale the weights of a fresh model's blocks, by PyTorch's generator; by default nothing is changed."""
    blocks = [module for module in model.modules() if isinstance(module, GDN2Block)]
    added = sum(1 + block.has_mlp for block in blocks)
    for block in blocks:
        for name, layer in block.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            if spec.xavier_gain is not None:
                nn.init.xavier_uniform_(layer.weight, gain=spec.xavier_gain)
            if spec.scaled_residuals and name.rpartition(".")[2] in LAST:
                layer.weight.mul_(added**-0.5)
