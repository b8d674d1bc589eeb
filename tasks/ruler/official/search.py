"""How many units of context fit: the searches of the official generators, and what becomes of samples that do not.

Every probe is a draw, so a search decides which random numbers the samples get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tasks.errors import TaskError
from tasks.ruler.official.drawn import Count, Drawn, DrawnTask

MAX_ATTEMPTS = 1000
"""The originals draw for ever where nothing fits; this is where we stop and say so."""


def binary_size(
    family: DrawnTask, count: Count, budget: int, *, first: int | None = None, factor: int = 3, reserved: int = 0
) -> int:
    """NVIDIA's search: the largest size that a bisection saw fit, from a linear estimate of its upper bound.

    Args:
        family: what is drawn.
        count: tokens of a text.
        budget: tokens of prompt and generation together.
        first: size of the draw that estimates tokens a unit; by default the step. With it, the estimate is rounded
            down before it is multiplied (common words).
        factor: upper bound in units of the estimate.
        reserved: tokens of the budget that the estimate does not know of.
    """
    step = family.step
    per_unit = count(_probe(family, first or step).prompt) / (first or step)
    upper = int(budget // per_unit) * factor if first else int(budget / per_unit * factor)
    low, high, best = step, max(upper, 2 * step), step
    while low <= high:
        middle = (low + high) // 2
        if count(_probe(family, middle).prompt) + family.generated_tokens + reserved <= budget:
            best, low = middle, middle + 1
        else:
            high = middle - 1
    return best


def shrinking_samples(
    family: DrawnTask, count: Count, budget: int, size: int, *, name: str, shrink: bool = True
) -> Iterator[tuple[Drawn, int]]:
    """NVIDIA's samples with the size of each: redrawn one step smaller while they do not fit, never below the step.

    Raises:
        TaskError: the smallest size did not fit in MAX_ATTEMPTS draws, where the original goes on for ever.
    """
    index = 0
    while True:
        family.ask(index)
        used, tokens = size, 0
        for _ in range(MAX_ATTEMPTS):
            try:
                drawn = family.draw(used)
                tokens = count(drawn.counted) + family.generated_tokens
                if tokens <= budget:
                    yield drawn, used
                    break
            except (ValueError, IndexError):
                pass
            if shrink and used > family.step:
                used -= family.step
        else:
            raise too_short(name, tokens)
        index += 1


def linear_size(
    family: DrawnTask,
    count: Count,
    length: int,
    measured: Callable[[Drawn], str],
    *,
    start: int,
    most: int | None = None,
    probe_beyond: bool = False,
) -> int:
    """The older search: a step more until the length is met, and a step back when it is exceeded.

    Args:
        family: what is drawn.
        count: tokens of a text.
        length: tokens of prompt and generation together.
        measured: the text that the search counts: the prompt with its answers.
        start: the first size.
        most: the largest size that there are units for.
        probe_beyond: whether a size above that is drawn once before it is found too large.
    """
    size, tokens = start, 0
    while tokens + family.generated_tokens < length:
        tokens = count(measured(_probe(family, size)))
        if tokens + family.generated_tokens > length:
            return size - family.step
        if most is not None and size + (0 if probe_beyond else family.step) > most:
            return most
        size += family.step
    return size


def _probe(family: DrawnTask, size: int) -> Drawn:
    """A draw of a search, where the original does not survive one that fails."""
    try:
        return family.draw(size)
    except (ValueError, IndexError) as error:
        raise TaskError(
            f"the original generator fails here ({error}): use another seed or length, or `exact`"
        ) from error


def too_short(name: str, tokens: int) -> TaskError:
    """The error of a length that no draw fits."""
    needed = f"; its smallest prompts need about {tokens} tokens, generation included" if tokens else ""
    return TaskError(f"{name}: the original generator never ends at this length{needed}: use a longer one, or `exact`")
