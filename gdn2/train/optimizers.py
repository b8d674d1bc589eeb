"""The optimizers of a recipe, as one object: AdamW, or Muon for the matrices of blocks and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from gdn2.model import GDN2ForCausalLM
from gdn2.train.recipe import OptimizerSpec, Recipe
from gdn2.train.sharing import cut_like

MOMENTS = {"AdamW": ("exp_avg", "exp_avg_sq"), "Muon": ("momentum_buffer",)}


class Several:
    """Optimizers of parts of a model, which step together.

    Attributes:
        optimizers: in the order of their states.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = tuple(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all, whose rates may be set."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        """Take a step by each."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Give the gradients' memory back."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """The state: of one optimizer that optimizer's, of several theirs by number."""
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        return states[0] if len(states) == 1 else {str(number): state for number, state in enumerate(states)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state.

        Raises:
            Exception: whatever a state that does not fit makes of PyTorch; ValueError where a moment has another shape,
                which PyTorch would only notice at the next step.
        """
        states = [state] if len(self.optimizers) == 1 else [state[str(i)] for i in range(len(self.optimizers))]
        for optimizer, part in zip(self.optimizers, states, strict=True):
            optimizer.load_state_dict(_cut(part, optimizer))
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    for name in MOMENTS[type(optimizer).__name__]:
                        if optimizer.state[parameter][name].shape != parameter.shape:
                            raise ValueError(f"{name} of another shape")


def _cut(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A state whose moments are cut over processes as their parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {
        number: {name: cut_like(x, parameters[number]) for name, x in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": moments}


def make_optimizers(model: GDN2ForCausalLM, recipe: Recipe) -> Several:
    """The optimizers that a recipe asks for.

    Weight decay is for matrices; there is none for norms, biases, decay parameters and the embedding. Muon
    (Jordan et al., 2024) takes the matrices of the blocks, with steps as long as AdamW's, so that one rate serves both.

    Raises:
        RecipeError: Muon is asked for, and this PyTorch has none.
    """
    spec = recipe.optimizer
    named = list(model.named_parameters())
    if spec.name == "adamw":
        return Several([_adamw(named, spec)])
    if not hasattr(torch.optim, "Muon"):
        raise recipe.error(
            f"optimizer.name: PyTorch {torch.__version__} has no Muon; install 2.9 or newer, or choose adamw"
        )
    heads = {id(p) for module in (model.lm_head, model.model.embed_tokens) for p in module.parameters()}
    matrices = [p for p in decayed_of(named) if id(p) not in heads]
    muon = torch.optim.Muon(
        matrices, lr=spec.learning_rate, weight_decay=spec.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    chosen = {id(p) for p in matrices}
    return Several([muon, _adamw([(name, p) for name, p in named if id(p) not in chosen], spec)])


def _adamw(named: Sequence[tuple[str, nn.Parameter]], spec: OptimizerSpec) -> torch.optim.Optimizer:
    groups = weight_groups(named, spec.weight_decay)
    betas = 0.9, float(spec.beta2)  # PyTorch refuses a whole number, which 0 is
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=betas, eps=1e-8, fused=True)


def weight_groups(named: Sequence[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """An optimizer's groups of parameters: those that decay, then all others.

    Args:
        named: parameters by name.
        weight_decay: of matrices; there is none for norms, biases, decay parameters and the embedding.
    """
    decayed = decayed_of(named)
    ids = {id(p) for p in decayed}
    rest = [p for _, p in named if id(p) not in ids]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def decayed_of(named: Sequence[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    """The matrices, without the embedding."""
    return [p for name, p in named if p.ndim == 2 and "embed" not in name]
