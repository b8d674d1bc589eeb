"""Counts as people read them."""

from __future__ import annotations


def short(number: float) -> str:
    """Exact below 10,000, else four characters and a unit: a row fits into a terminal of 80."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size and number >= 10_000:
            return f"{number / size:.1f}{unit}" if number < 100 * size else f"{number / size:.0f}{unit}"
    return f"{int(number):,}"
