"""New figures beside those of an earlier file of the same benchmark."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def compare(
    record: dict[str, Any], old_file: Path, threshold: float, identity: Callable[[Row], str],
    higher_is_better: Callable[[str], bool | None],
) -> list[str]:  # fmt: skip
    """Print each figure beside its old one; returns those that are worse by more than `threshold`, as a fraction.

    Exits where there is nothing to compare: another GPU model, or no row in common.

    Args:
        record: the new file: a machine with its "gpu", and rows.
        old_file: the earlier file.
        threshold: how much worse a figure may be.
        identity: what makes two rows the same measurement.
        higher_is_better: of a row's key; None: it is no figure that is compared.
    """
    try:
        old = json.loads(old_file.read_text(encoding="utf-8"))
        before, now = old["machine"]["gpu"], record["machine"]["gpu"]
        known = {identity(row): row for row in old["rows"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"{old_file} is no file of this benchmark: {type(error).__name__}: {error}")
    if before != now:
        sys.exit(
            f"{old_file} was measured on {before}, the new figures on {now}: times of two GPU models do not compare"
        )
    worse, compared = [], 0
    for row in record["rows"]:
        earlier = known.get(identity(row))
        if earlier is None:
            print(f"  new    {identity(row)}: not in {old_file}")
            continue
        for key, value in row.items():
            upwards = higher_is_better(key)
            if upwards is None or not earlier.get(key) or not value:
                continue
            ratio, name = value / earlier[key], f"{identity(row)} {key}"
            compared += 1
            bad = not (ratio >= 1 / (1 + threshold) if upwards else ratio <= 1 + threshold)  # NaN is worse
            word = "ok    " if not bad else "LOWER " if upwards else "SLOWER" if "GiB" not in key else "LARGER"
            print(f"  {word} {name}: {earlier[key]:.4g} -> {value:.4g}, {ratio:.2f} times")
            worse += [f"{name}: {ratio:.2f} times"] if bad else []
    if not compared:
        sys.exit(f"nothing to compare: {old_file} has none of these shapes")
    print(f"{compared} medians compared, {len(worse)} over {1 + threshold:.2f} times the old time or memory")
    return worse
