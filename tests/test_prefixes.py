"""The tree of prefixes and the plan: every input is read once, in order, and nothing is read that nobody asked for."""

from __future__ import annotations

import random

import pytest

from harness.engine import units as planning
from harness.engine.prefixes import MIN_SAVED, MIN_SHARED, PrefixTree, build_tree
from harness.engine.schedule import needed_batches, schedule
from harness.engine.units import Limits, Plan, make_plan, pack, step_width

LIMITS = Limits(tokens=256, rows=6)


def random_inputs(rng: random.Random) -> list[list[int]]:
    """Inputs that share beginnings of many lengths, repeat each other, and begin each other."""
    pool: list[list[int]] = [[rng.randrange(3) for _ in range(rng.randint(1, 40))]]
    for _ in range(rng.randint(1, 60)):
        start = rng.choice(pool)
        start = start[: rng.randint(0, len(start))]
        pool.append(start + [rng.randrange(3) for _ in range(rng.randint(0 if start else 1, 60))])
    pool += family(rng, [7], rng.randint(0, 3))
    return rng.sample(pool, len(pool))


def family(rng: random.Random, start: list[int], depth: int) -> list[list[int]]:
    """Inputs that branch at so many places behind a common beginning, as texts under one instruction do."""
    start = start + [rng.randrange(3) for _ in range(40)]
    if not depth:
        return [[*start, 10 + i, *range(rng.randint(0, 9))] for i in range(rng.randint(2, 6))]
    return [ids for branch in range(2) for ids in family(rng, [*start, 10 + branch], depth - 1)]


def paths(tree: PrefixTree) -> dict[int, list[int]]:
    """What each request's path reads."""
    found: dict[int, list[int]] = {}
    texts: list[list[int]] = []
    for index, node in enumerate(tree.nodes):
        before = [] if node.parent is None else texts[node.parent]
        assert len(before) == node.start
        texts.append(before + tree.tokens(index))
        for request in node.ending:
            assert request not in found
            found[request] = texts[-1]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_every_path_spells_its_input_and_counts_add_up(seed: int) -> None:
    inputs = random_inputs(random.Random(seed))
    tree = build_tree(inputs)
    assert paths(tree) == dict(enumerate(inputs))
    assert sum(tree.nodes[root].below for root in tree.roots) == len(inputs)
    assert tree.num_tokens + tree.num_shared == sum(map(len, inputs))
    for node in tree.nodes:
        assert node.end > node.start
        assert all(tree.nodes[child].start == node.end for child in node.children)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_long_enough_is_shared_to_the_token(seed: int) -> None:
    """Against the plain definition: a token is read once for each distinct prefix that ends with it."""
    rng = random.Random(seed)
    contexts = [[rng.randrange(9) for _ in range(rng.randint(50, 90))] for _ in range(5)]
    inputs = [[i, *context, 10 + j] for i, context in enumerate(contexts) for j in range(4)]
    distinct = {tuple(ids[: n + 1]) for ids in inputs for n in range(len(ids))}
    assert build_tree(inputs).num_tokens == len(distinct)


def test_short_runs_are_not_worth_a_fork() -> None:
    short = [[7] * (MIN_SHARED - 1) + [i] for i in range(100)]
    assert build_tree(short).num_shared == 0
    few = [[7] * (MIN_SAVED - 1) + [i] for i in range(2)]
    assert build_tree(few).num_shared == 0
    assert build_tree([[7] * MIN_SAVED + [i] for i in range(2)]).num_shared == MIN_SAVED


def test_an_empty_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        build_tree([[1], []])


def check_plan(plan: Plan, inputs: list[list[int]], firsts: list[int]) -> None:
    """Each request ends once; its path spells its input; exactly its scored positions are in nodes that know it."""
    seen: set[int] = set()
    trunks = set()
    read = 0
    for unit in plan.units:
        texts: list[list[int]] = []
        read += unit.num_tokens
        for node in unit.nodes:
            trunks |= {node.trunk[: n + 1] for n in range(len(node.trunk))}
            assert node.parent is None or not node.trunk
            trunk = [token for run in node.trunk for token in run]
            before = trunk if node.parent is None else texts[node.parent]
            assert node.start == len(before)
            texts.append(before + node.tokens)
            seen.update(node.ending)
            assert all(texts[-1] == inputs[request] for request in node.ending)
        assert sorted(unit.requests) == sorted(r for node in unit.nodes for r in node.ending)
        for request in unit.requests:
            scored = [
                position
                for node in unit.nodes
                if request in node.scored
                for position in range(max(node.start, firsts[request]), node.start + len(node.tokens))
            ]
            assert sorted(scored) == list(range(firsts[request], len(inputs[request])))
    assert seen == set(range(len(inputs)))
    assert plan.num_tokens == read + sum(len(trunk[-1]) for trunk in trunks)


@pytest.mark.parametrize("seed", range(30))
def test_units_hold_each_request_once_and_its_scored_positions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "TRUNK_REQUESTS", 4)
    rng = random.Random(seed)
    inputs = random_inputs(rng)
    firsts = [rng.randint(0, len(ids)) for ids in inputs]
    check_plan(make_plan(inputs, firsts, LIMITS), inputs, firsts)


def test_what_many_begin_with_is_a_trunk_unless_it_is_scored() -> None:
    context = list(range(100))
    inputs = [[*context, 200 + i, *range(50)] for i in range(planning.TRUNK_REQUESTS + 1)]
    behind = [len(context)] * len(inputs)
    plan = make_plan(inputs, behind, LIMITS)
    check_plan(plan, inputs, behind)
    assert {node.trunk for unit in plan.units for node in unit.nodes} == {(tuple(context),)}
    assert len(plan.units) > 1
    inside = [len(context) - 1] * len(inputs)
    plan = make_plan(inputs, inside, LIMITS)
    check_plan(plan, inputs, inside)
    assert [node.trunk for unit in plan.units for node in unit.nodes if node.parent is None] == [()]


@pytest.mark.parametrize("depth", [2, 3])
def test_trunks_may_follow_each_other_with_nothing_between(depth: int) -> None:
    """As two haystacks behind one instruction, each asked for many needles: trunks lead to nothing but trunks."""
    groups = [[first] for first in range(100, 102)]
    for level in range(1, depth):
        groups = [[*group, *range(1000 * level, 1000 * level + 40), branch] for group in groups for branch in (1, 2)]
    count = planning.TRUNK_REQUESTS + 1
    inputs = [[*range(50), *group, *range(300, 340), 500 + i, *range(20)] for group in groups for i in range(count)]
    firsts = list(map(len, inputs))
    plan = make_plan(inputs, firsts, LIMITS)
    check_plan(plan, inputs, firsts)
    assert {len(node.trunk) for unit in plan.units for node in unit.nodes if node.parent is None} == {depth + 1}


@pytest.mark.parametrize("seed", range(30))
def test_a_schedule_reads_each_node_once_and_parents_first(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "TRUNK_REQUESTS", 4)
    rng = random.Random(seed)
    inputs = random_inputs(rng)
    for unit in make_plan(inputs, list(map(len, inputs)), LIMITS).units:
        batches = schedule(unit, LIMITS)
        order = [node for batch in batches for node in batch]
        assert sorted(order) == list(range(len(unit.nodes)))
        read: set[int | None] = {None}
        for batch in batches:
            assert all(unit.nodes[node].parent in read for node in batch)
            read.update(batch)
        known = set(rng.sample(unit.requests, rng.randint(0, len(unit.requests))))
        kept = needed_batches(unit, batches, known)
        there = {node for batch in kept for node in batch}
        assert [batch for batch in batches if batch in kept] == kept
        assert all(unit.nodes[node].parent in {None, *there} for node in there)
        assert {i for node in there for i in unit.nodes[node].ending} | known == set(unit.requests)
    assert needed_batches(unit, batches, set(unit.requests)) == []


def test_prompts_that_leave_a_text_at_different_places_are_read_together() -> None:
    """As needles at other depths of the same haystack: their rests share steps, before and behind the trunk's end."""
    text = list(range(4000))
    inputs = [[*text[: 60 * i + 60], 5000 + i, *range(6000, 6400)] for i in range(planning.TRUNK_REQUESTS + 12)]
    limits = Limits(tokens=8192, rows=64)
    plan = make_plan(inputs, list(map(len, inputs)), limits)
    check_plan(plan, inputs, list(map(len, inputs)))
    sizes = [
        len(batch)
        for unit in plan.units
        for batch in schedule(unit, limits)
        if not any(unit.nodes[node].children for node in batch)
    ]
    assert max(sizes) >= 16
    assert sum(sizes) == len(inputs)
    assert len(sizes) <= len(inputs) / 5


@pytest.mark.parametrize("seed", range(20))
def test_batches_hold_everything_once_and_stay_within_the_limits(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 300) for _ in range(rng.randint(1, 50))]
    batches = pack(lengths, LIMITS)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        width = min(max(lengths[i] for i in batch), planning.SEGMENT)
        assert len(batch) <= LIMITS.rows
        assert len(batch) == 1 or len(batch) * width <= LIMITS.tokens


@pytest.mark.parametrize("seed", range(20))
def test_steps_fill_up_little(seed: int) -> None:
    rng = random.Random(seed)
    limits = Limits(tokens=4096, rows=64)
    remaining = sorted((rng.randint(1, 3000) for _ in range(rng.randint(1, 12))), reverse=True)
    useful, read = sum(remaining), 0
    while remaining:
        width = step_width(remaining, limits)
        assert 1 <= width <= max(planning.SEGMENT, limits.tokens // len(remaining))
        read += width * len(remaining)
        remaining = [length - width for length in remaining if length > width]
    assert useful <= read <= useful * (1 + planning.PADDING) + 1e-9


def test_limits_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"Limits\.rows must be at least 1"):
        Limits(rows=0)
    assert Limits(tokens=1, rows=1).halved() == Limits(tokens=1, rows=1)
