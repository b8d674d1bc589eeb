"""The tree of prefixes cut into units that do not depend on each other, so that any process can run one.

Pure: a plan depends on the requests and the limits alone, so it is the same on every machine and in every process that
is given the same limits. `schedule.py` cuts a unit into batches by tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from harness.engine.prefixes import PrefixTree, build_tree

CHUNK = 64  # tokens; the operator's chunk: segments end at its multiples, so that chunks do not depend on segments
SEGMENT = 1024  # tokens of a row that are read at a time, or more where a batch has few rows
TRUNK_REQUESTS = 32  # a prefix with more requests below it is read for itself, so that several workers can go on
PADDING = 0.05  # of a step; rows that end earlier are not filled up beyond it
Trunk = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What fits into memory.

    Attributes:
        tokens: of a forward, over all rows.
        rows: of a batch; each has a state.
        slots: tokens of all rows of a batch together, from the beginnings of their texts on, where states grow with
            them.
    """

    tokens: int = 8192
    rows: int = 64
    slots: int | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"Limits.{name} must be at least 1, got {getattr(self, name)}")

    def halved(self) -> Limits:
        """Half of both, for after an allocation that failed."""
        slots = None if self.slots is None else max(self.slots // 2, 1)
        return Limits(tokens=max(self.tokens // 2, 1), rows=max(self.rows // 2, 1), slots=slots)

    def within(self, longest: int) -> Limits:
        """Those of a batch of texts of at most so many tokens: as many rows as `slots` allow."""
        if self.slots is None:
            return self
        return replace(self, rows=max(1, min(self.rows, self.slots // max(longest, 1))))


@dataclass(slots=True)
class UnitNode:
    """A run of tokens to read behind its parent.

    Attributes:
        tokens: what is read.
        start: tokens before them, from the beginning of the text.
        parent: index in the unit; None where it follows a trunk or begins a text.
        trunk: the runs of tokens before a node without a parent, from the beginning of the text on; shared with other
            units.
        ending: requests whose input ends here.
        scored: requests that score tokens in here.
        keeps_state: whether somebody goes on from its end.
    """

    tokens: list[int]
    start: int
    parent: int | None
    trunk: Trunk = ()
    children: list[int] = field(default_factory=list)
    ending: list[int] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    keeps_state: bool = False


@dataclass(slots=True)
class Unit:
    """Work that depends on nothing else: it can go to any process.

    Attributes:
        nodes: parents first.
        requests: all requests that end in it.
    """

    nodes: list[UnitNode]
    requests: list[int]

    @property
    def num_tokens(self) -> int:
        """Tokens to read, without the trunks."""
        return sum(len(node.tokens) for node in self.nodes)

    @property
    def longest(self) -> int:
        """Tokens of the longest text that ends in it."""
        return max((node.start + len(node.tokens) for node in self.nodes), default=0)

    def firsts(self) -> list[int]:
        """The nodes without a parent in the unit."""
        return [index for index, node in enumerate(self.nodes) if node.parent is None]


@dataclass(frozen=True, slots=True)
class Plan:
    """All units of a call, the longest first: what runs out of memory does so at once.

    Attributes:
        num_tokens: tokens to read, each trunk once.
        num_shared: tokens that requests have in common and that are not read again.
        reads: of each request the tokens that are read for it; what several share is read for the first of them.
    """

    units: list[Unit]
    num_tokens: int
    num_shared: int
    reads: list[int]


def make_plan(inputs: Sequence[Sequence[int]], firsts: Sequence[int], limits: Limits, *, go_on: bool = False) -> Plan:
    """The plan of some inputs.

    Args:
        inputs: token ids of each request, not empty.
        firsts: of each request the first position whose prediction is scored; its length where none is.
        limits: the tokens and rows that a step may have.
        go_on: whether every request continues from the end of its input, as generation does.
    """
    tree = build_tree(inputs)
    limits = limits.within(max(map(len, inputs), default=0))
    trunk_of, tops = _split_trunks(tree, firsts)
    groups: dict[tuple[int, ...], list[int]] = {}
    for top in tops:
        groups.setdefault(trunk_of[top][:1], []).append(top)  # that leave the same text, wherever
    runs = {node: tuple(tree.tokens(node)) for node in {node for path in trunk_of.values() for node in path}}
    trunks = {top: tuple(runs[node] for node in path) for top, path in trunk_of.items()}
    units = []
    for members in groups.values():
        lengths = [tree.nodes[top].end - tree.nodes[top].start for top in members]
        for batch in pack(lengths, limits):
            units.append(_unit(tree, trunks, [members[i] for i in batch], firsts, go_on=go_on))
    units.sort(key=lambda unit: -max(len(node.tokens) for node in unit.nodes))
    return Plan(units, tree.num_tokens, tree.num_shared, _reads(tree, len(inputs)))


def _reads(tree: PrefixTree, count: int) -> list[int]:
    """Of each request the tokens of the nodes whose first request it is."""
    reads, first = [0] * count, [count] * len(tree.nodes)
    for index in reversed(range(len(tree.nodes))):
        node = tree.nodes[index]
        first[index] = min([*node.ending, *(first[child] for child in node.children)])
        reads[first[index]] += node.end - node.start
    return reads


def pack(lengths: Sequence[int], limits: Limits) -> list[list[int]]:
    """Indices in batches of similar length, the longest first; a batch's first step holds at most `limits.tokens`."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    rows = 0
    for i in order:
        if not batches or len(batches[-1]) >= rows:
            batches.append([])
            rows = max(1, min(limits.rows, limits.tokens // min(lengths[i], SEGMENT)))
        batches[-1].append(i)
    return batches


def step_width(remaining: Sequence[int], limits: Limits) -> int:
    """Tokens of the next step of a batch whose rows have `remaining` tokens left, sorted, the longest first.

    Either rows end with the step, and filling up the shorter ones costs at most PADDING, or it ends at a multiple of
    CHUNK.
    """
    widest = max(min(SEGMENT, limits.tokens), limits.tokens // len(remaining))
    width, filled = remaining[-1], 0  # the shortest rows end here; take more of them while little is filled up
    for count, length in enumerate(reversed(remaining), start=1):
        filled += (length - width) * (count - 1)
        if filled > PADDING * length * len(remaining):
            break
        width = length
    if width <= widest:
        return width
    return max(widest // CHUNK * CHUNK, min(CHUNK, widest))


def _split_trunks(tree: PrefixTree, firsts: Sequence[int]) -> tuple[dict[int, tuple[int, ...]], list[int]]:
    """For each node at the top of a unit its trunk, and these nodes. Nothing ends and nothing is scored in a trunk."""
    first_below = [0] * len(tree.nodes)
    for index in reversed(range(len(tree.nodes))):
        node = tree.nodes[index]
        below = [firsts[request] for request in node.ending] + [first_below[child] for child in node.children]
        first_below[index] = min(below)
    trunk_of: dict[int, tuple[int, ...]] = {}
    tops = []
    queue: list[tuple[int, tuple[int, ...]]] = [(root, ()) for root in tree.roots]
    for index, path in queue:
        node = tree.nodes[index]
        if node.below > TRUNK_REQUESTS and not node.ending and first_below[index] >= node.end:
            queue.extend((child, (*path, index)) for child in node.children)
        else:
            trunk_of[index] = path
            tops.append(index)
    return trunk_of, tops


def _unit(
    tree: PrefixTree, trunks: dict[int, Trunk], tops: Sequence[int], firsts: Sequence[int], *, go_on: bool
) -> Unit:
    unit = Unit([], [])
    queue: list[tuple[int, int | None]] = [(top, None) for top in tops]
    for index, parent in queue:
        at = tree.nodes[index]
        node = UnitNode(tree.tokens(index), at.start, parent, trunks.get(index, ()), ending=list(at.ending))
        node.keeps_state = bool(at.children) or (go_on and bool(at.ending))
        unit.nodes.append(node)
        place = len(unit.nodes) - 1
        if parent is not None:
            unit.nodes[parent].children.append(place)
        queue.extend((child, place) for child in at.children)
        unit.requests.extend(at.ending)
        for request in at.ending:  # tell the path to the root who scores in it
            up: int | None = place
            while up is not None and unit.nodes[up].start + len(unit.nodes[up].tokens) > firsts[request]:
                unit.nodes[up].scored.append(request)
                up = unit.nodes[up].parent
    return unit
