"""The tree of token prefixes: what several requests begin with is read once. Pure: knows token ids, nothing of models.

Letters: a node is a run of tokens behind its parent's; a request ends at one node, and its path is its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MIN_SHARED = 8  # tokens; below that a fork costs more than reading them again
MIN_SAVED = 32  # tokens that a shared run must save altogether


@dataclass(slots=True)
class Node:
    """Tokens [start, end) of the input of request `source`, and of all requests below."""

    start: int
    end: int
    source: int
    parent: int | None = None
    children: list[int] = field(default_factory=list)
    ending: list[int] = field(default_factory=list)
    """Requests whose input ends here."""
    below: int = 0
    """Requests that end here or further down."""


@dataclass(slots=True)
class PrefixTree:
    """Nodes in an order in which parents come first."""

    inputs: Sequence[Sequence[int]]
    nodes: list[Node]
    roots: list[int]

    def tokens(self, node: int) -> list[int]:
        """The token ids that a node adds to those of its parent."""
        at = self.nodes[node]
        return list(self.inputs[at.source][at.start : at.end])

    @property
    def num_tokens(self) -> int:
        """Tokens to read."""
        return sum(node.end - node.start for node in self.nodes)

    @property
    def num_shared(self) -> int:
        """Tokens that need not be read because another request has them too."""
        return sum(map(len, self.inputs)) - self.num_tokens


def build_tree(inputs: Sequence[Sequence[int]]) -> PrefixTree:
    """The tree of all inputs, none of them empty; runs that save too little to be worth a fork are not shared.

    Raises:
        ValueError: an empty input.
    """
    if any(not len(ids) for ids in inputs):
        raise ValueError("an input needs at least one token")
    keys = [np.asarray(ids, dtype=">u4").tobytes() for ids in inputs]  # big-endian: bytes sort as tokens do
    arrays = [np.frombuffer(key, dtype=">u4") for key in keys]  # the same memory: all prompts of a call are in it
    order = sorted(range(len(keys)), key=keys.__getitem__)
    nodes, roots = _radix_tree(arrays, order)
    for node in reversed(nodes):
        node.below += len(node.ending)
        if node.parent is not None:
            nodes[node.parent].below += node.below
    return _pruned(PrefixTree(inputs, nodes, roots))


def _radix_tree(arrays: Sequence[NDArray[np.uint32]], order: Sequence[int]) -> tuple[list[Node], list[int]]:
    """Nodes by a walk over the sorted inputs.

    The path to the last input is kept, and cut where the next one leaves it.
    """
    nodes: list[Node] = []
    roots: list[int] = []
    path: list[int] = []

    def attach(child: int, parent: int | None) -> None:
        nodes[child].parent = parent
        (roots if parent is None else nodes[parent].children).append(child)

    for at, request in enumerate(order):
        ids = arrays[request]
        common = _common(arrays[order[at - 1]], ids) if at else 0
        while path and nodes[path[-1]].start >= common:
            path.pop()
        if path and nodes[path[-1]].end > common:  # the two part inside a node
            _cut(nodes, path[-1], common)
        if common == len(ids):  # equal to the last input: nothing longer sorts before it
            nodes[path[-1]].ending.append(request)
            continue
        nodes.append(Node(common, len(ids), request, ending=[request]))
        attach(len(nodes) - 1, path[-1] if path else None)
        path.append(len(nodes) - 1)
    return _parents_first(nodes, roots)


def _cut(nodes: list[Node], index: int, at: int) -> None:
    """Cut a node into a head, which keeps its index, and a tail, which gets its children."""
    node = nodes[index]
    tail = Node(at, node.end, node.source, index, node.children, node.ending)
    nodes.append(tail)
    for child in tail.children:
        nodes[child].parent = len(nodes) - 1
    node.end, node.children, node.ending = at, [len(nodes) - 1], []


def _common(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> int:
    size = min(len(a), len(b))
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if len(different) else size


def _parents_first(nodes: list[Node], roots: list[int]) -> tuple[list[Node], list[int]]:
    """The same tree with its nodes numbered from the roots on."""
    order = list(roots)
    for index in order:
        order.extend(nodes[index].children)
    place = {old: new for new, old in enumerate(order)}
    ordered = [nodes[old] for old in order]
    for node in ordered:
        node.parent = None if node.parent is None else place[node.parent]
        node.children = [place[child] for child in node.children]
    return ordered, [place[root] for root in roots]


def _pruned(tree: PrefixTree) -> PrefixTree:
    """The tree without the shared runs that save too little: their children read them again."""
    nodes, keep = tree.nodes, [True] * len(tree.nodes)
    extra: list[Node] = []
    for index, node in enumerate(nodes):  # parents first, so a kept parent's cut is known
        node.parent = _kept(nodes, keep, node.parent)
        node.start = 0 if node.parent is None else nodes[node.parent].end
        size, readers = node.end - node.start, len(node.children) + bool(node.ending)
        if node.children and (size < MIN_SHARED or size * (readers - 1) < MIN_SAVED):
            keep[index] = False
            if node.ending:
                extra.append(Node(node.start, node.end, node.source, node.parent, [], node.ending, len(node.ending)))
    kept = [node for index, node in enumerate(nodes) if keep[index]]
    place = {index: new for new, index in enumerate(i for i, flag in enumerate(keep) if flag)}
    kept += extra
    for node in kept:
        node.children = []
        node.parent = None if node.parent is None else place[node.parent]
    roots: list[int] = []
    for index, node in enumerate(kept):
        (roots if node.parent is None else kept[node.parent].children).append(index)
    return PrefixTree(tree.inputs, kept, roots)


def _kept(nodes: list[Node], keep: list[bool], index: int | None) -> int | None:
    while index is not None and not keep[index]:
        index = nodes[index].parent
    return index
