"""Counts as people read them."""

from __future__ import annotations


def short(number: float) -> str:
    """Exact below 10,000, else four characters and a unit: a row fits into a terminal of 80."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size and number >= 10_000:
            return f"{number / size:.1f}{unit}" if number < 100 * size else f"{number / size:.0f}{unit}"
    return f"{int(number):,}"


def short_length(length: int) -> str:
    """Tokens as papers write them: `4K` for 4096; a number that is no multiple of 1,024 as it is."""
    return f"{length // 1024}K" if length >= 1024 and length % 1024 == 0 else f"{length:,}"


def counted(number: int, word: str) -> str:
    """`1 model`, `2,000 models`."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")
