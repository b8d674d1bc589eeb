"""In which batches the nodes of a unit are read. Pure, as `plan`: it does not depend on what is known already.

Nodes that others continue go first, deepest next, so that few states are held; nodes at the ends of the tree wait
until they fill a step, whoever their parents are. So prompts that leave a common text at different places, one after
the other, are read together all the same.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from harness.engine.units import SEGMENT, Limits, Unit, pack


def schedule(unit: Unit, limits: Limits) -> list[list[int]]:
    """The nodes in batches, each node behind its parent's batch."""
    limits = limits.within(unit.longest)
    batches: list[list[int]] = []
    inner: list[list[int]] = []  # a stack
    ends: list[int] = []

    def packed(nodes: Sequence[int]) -> list[list[int]]:
        lengths = [len(unit.nodes[node].tokens) for node in nodes]
        return [[nodes[i] for i in part] for part in pack(lengths, limits)]

    def take(nodes: Sequence[int]) -> None:
        inner.extend(reversed(packed([node for node in nodes if unit.nodes[node].children])))
        ends.extend(node for node in nodes if not unit.nodes[node].children)

    take(unit.firsts())
    while inner or ends:
        width = sum(min(len(unit.nodes[node].tokens), SEGMENT) for node in ends)
        if not inner or len(ends) >= limits.rows or width >= limits.tokens:
            batches += packed(ends)
            ends = []
        else:
            batches.append(inner.pop())
            take([child for node in batches[-1] for child in unit.nodes[node].children])
    return batches


def needed_batches(unit: Unit, batches: Sequence[list[int]], known: Container[int]) -> list[list[int]]:
    """The batches without those that nobody needs, because the requests in them and behind them are `known`.

    A batch is read whole or not at all, so that a result does not depend on what is known, to the last bit.
    """
    needed = [any(i not in known for i in node.ending) for node in unit.nodes]
    kept = []
    for batch in reversed(batches):
        if any(needed[node] for node in batch):
            kept.append(batch)
            for node in batch:
                if (parent := unit.nodes[node].parent) is not None:
                    needed[parent] = True
    return kept[::-1]
