"""Bounds on what a task may ask for: beyond them stands a slip of the pen that would draw documents for days."""

from __future__ import annotations

MAX_LENGTH = 1 << 24
"""Tokens of a document."""
LENGTH = "[0-9]{1,20}"
"""A length as it is written behind a task's name; Python makes no number of thousands of digits."""
MOST_SAMPLES = 1_000_000
"""Documents of a task: more than any data set here has."""
MOST_TOKENS = 1 << 33
"""Tokens of all documents of a task that are made: 500 of 16 million, or a million of 8,000."""
MOST_NEEDLES = 10_000
"""Statements planted in one document."""
LARGEST_SEED = 2**63 - 1
MOST_SHOTS = 1000
LONGEST_NAME = 100
"""Characters of a task's name, which names files."""


def number_problem(field: str, value: int) -> str | None:
    """What is wrong with a number that a task or suite gives.

    Args:
        field: length, samples, seed, shots or max_length.
        value: the number.

    Returns:
        The rest of a message that begins with the field; None if all is well.
    """
    least, most = {
        "length": (1, MAX_LENGTH),
        "max_length": (1, MAX_LENGTH),
        "samples": (1, MOST_SAMPLES),
        "seed": (-LARGEST_SEED, LARGEST_SEED),
        "shots": (0, MOST_SHOTS),
    }[field]
    if least <= value <= most:
        return None
    if field == "seed":
        return f"must be a whole number of 64 bits, got {value}"
    unit = " tokens" if field in ("length", "max_length") and value > most else ""
    return (
        f"must be at least {least}, got {value}" if value < least else f"must be at most {most:,}{unit}, got {value:,}"
    )
