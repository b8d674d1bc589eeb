"""Which models are the seeds of one training, as their records say, and what that training is called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, TypeVar

from basis.names import listed

if TYPE_CHECKING:
    from harness.records.record import RunRecord

Key = TypeVar("Key")
Item = TypeVar("Item")
Said = tuple[str | None, int | None]
"""The hash of what a model was trained by, and its seed; both are None where no record says both."""
MOST_NAMED = 3
"""Seeds that are named where the beginning of their names does not tell a training from others."""


def said_of(runs: Iterable[RunRecord]) -> Said:
    """Say by what recipe and seed a model was trained, as the first of its records that knows both has it."""
    said = ((run.model.training, run.model.training_seed) for run in runs)
    return next((pair for pair in said if None not in pair), (None, None))


def of_one_training(said: Sequence[Said]) -> bool:
    """Whether recipes and seeds, as records say them, are several seeds of one training: one recipe, no seed twice."""
    recipes, seeds = {recipe for recipe, _ in said}, {seed for _, seed in said}
    is_known = None not in recipes and None not in seeds
    return len(said) > 1 and is_known and len(recipes) == 1 and len(seeds) == len(said)


def by_training(
    models: Sequence[Item], said: Callable[[Item], Said], named: Callable[[Item], str], others: Collection[str] = ()
) -> dict[str, list[Item]]:
    """The seeds of each training that has several, by its name, which no other training or model has.

    Args:
        models: any, each once.
        said: the recipe and seed of one, as records say them.
        named: the name of one.
        others: further names that are taken.
    """
    by_recipe: dict[str, list[Item]] = {}
    for model in models:
        if (recipe := said(model)[0]) is not None:
            by_recipe.setdefault(recipe, []).append(model)
    several = {recipe: seeds for recipe, seeds in by_recipe.items() if of_one_training([*map(said, seeds)])}
    titles = {recipe: [*map(named, seeds)] for recipe, seeds in several.items()}
    its = {title for seeds in titles.values() for title in seeds}
    names = training_names(titles, {*others, *map(named, models)} - its)
    return {names[recipe]: seeds for recipe, seeds in several.items()}


def seeds_twice(said: Iterable[tuple[str, Said]]) -> list[str]:
    """Say which models of several seeds of one recipe are no training for want of one model a seed.

    Args:
        said: names of models with their recipes and seeds.

    Returns:
        What stands in the way, a sentence for each recipe. Steps of a single seed are no seeds, and are not named.
    """
    by_recipe: dict[str, dict[int | None, list[str]]] = {}
    for name, (recipe, seed) in said:
        if recipe is not None:
            by_recipe.setdefault(recipe, {}).setdefault(seed, []).append(name)
    found = []
    for seeds in by_recipe.values():
        several = [f"{_listed(names)} are of seed {seed}" for seed, names in seeds.items() if len(names) > 1]
        if len(seeds) > 1 and several:
            whole = _listed([name for names in seeds.values() for name in names])
            found.append(f"no mean of {whole}: {', '.join(several)}; name one model of each seed")
    return found


def training_names(seeds: Mapping[Key, Sequence[str]], others: Collection[str] = ()) -> dict[Key, str]:
    """Name trainings by what their seeds have in common at the beginning of their names.

    Args:
        seeds: the names of each training's seeds.
        others: names of models that are none of these seeds.

    Returns:
        A name for each, no two alike: where the beginning is that of another training's, is what another model is
        called or is empty, the seeds themselves are named.
    """
    short = {key: _beginning(names) for key, names in seeds.items()}
    counts = Counter(short.values())
    taken = set(others)
    for key, names in seeds.items():
        if not (short[key] and counts[short[key]] == 1 and short[key] not in taken):
            short[key] = _listed(names)
    return short


def _beginning(names: Sequence[str]) -> str:
    """What names have in common at their beginning: whole numbers, without the word for a seed."""
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    found = "".join(letters[0] for letters in shared)
    if any(name[len(found) : len(found) + 1].isdecimal() for name in names):
        found = re.sub(r"[0-9]+$", "", found)
    found = found.rstrip(" -_.@(")
    return re.sub(r"[ \-_.@]+seed$", "", found) or found


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and 3 more`."""
    if len(names) > MOST_NAMED:
        return listed(names, MOST_NAMED - 1)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
