"""How large rivals are, and in what they are not equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from basis.errors import reason
from gdn2.matching import EQUAL, repeated, state_floats, unequal
from gdn2.model import GDN2ForCausalLM
from gdn2.train.fields import RecipeError
from gdn2.train.recipe import Recipe
from gdn2.train.run import model_config


@dataclass(frozen=True)
class Size:
    """The size of one model.

    Attributes:
        name: the recipe's.
        parameters: of the whole model, with as many tokens as the recipe's tokenizer has at most.
        state: floats of all layers; None if it grows.
    """

    name: str
    parameters: int
    state: int | None

    @property
    def state_words(self) -> str:
        """The state for people."""
        return "grows" if self.state is None else f"{self.state:,} state floats"


def size_of(recipe: Recipe) -> Size:
    """The size of a recipe's model, of which no weight is made.

    Raises:
        RecipeError: the configuration or a layer refuses the recipe's `model`.
    """
    try:
        config = model_config(recipe, recipe.tokenizer.vocab_size)
        with torch.device("meta"):
            parameters = sum(p.numel() for p in GDN2ForCausalLM(config).parameters())
    except RecipeError:
        raise
    except Exception as error:  # values of any type reach layers of any kind here
        raise recipe.error(f"model: {reason(error)[:300]} (of {recipe.name})") from error
    floats = state_floats(config)
    return Size(recipe.name, parameters, None if None in floats else sum(n for n in floats if n is not None))


def check_differ(recipes: Sequence[Recipe]) -> None:
    """See that no two recipes have one model in other words, such as a default that one of them spells out.

    Raises:
        RecipeError: two have.
    """
    by_name = {recipe.name: recipe for recipe in recipes}
    twins = repeated({name: model_config(recipe, recipe.tokenizer.vocab_size) for name, recipe in by_name.items()})
    if twins is not None:
        raise by_name[twins[0]].error(f"models.{twins[0]} and models.{twins[1]} are the same; remove one")


def inequalities(sizes: Sequence[Size]) -> list[str]:
    """Sentences on what is not equal to the first of some models; none if nothing is."""
    first = sizes[0]
    larger = unequal([(size.name, size.parameters) for size in sizes], first.parameters)
    states = [f"{size.name} ({size.state_words})" for size in sizes if size.state != first.state]
    said = {
        f"not equal: parameters differ from those of {first.name} by more than {EQUAL:.0%}": larger,
        f"not equal: state differs from that of {first.name}, {first.state_words}": states,
    }
    return [f"{words}: {'; '.join(names)}" for words, names in said.items() if names]
