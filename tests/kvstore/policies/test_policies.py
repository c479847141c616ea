"""What every policy must hold, against a simple model; and what sets each apart."""

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.config import POLICIES, PolicyName
from kvstore.costs import PrefillProfile
from kvstore.policies import EvictionPolicy, create_policy
from kvstore.policies.ranked import RankedPolicy
from kvstore.tiers.base import Entry
from kvstore.types import Path, SegmentKey, SegmentSpec
from tests.kvstore.segments import chain_of, passage

CHAINS = [chain_of([1], passage(a), passage(b)) for a in range(2, 5) for b in range(5, 8)]
SPECS = list({spec.key: spec for path in CHAINS for spec in path}.values())
ROOTS = [chain_of(passage(n))[0] for n in range(12)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["use", "remove", "evict", "hold", "unhold"]),
        st.integers(0, len(SPECS) - 1),
    ),
    max_size=40,
)


def entry(spec: SegmentSpec, nbytes: int = 10) -> Entry:
    return Entry(spec, nbytes, 0.0)


def keys_of(policy: RankedPolicy) -> list[SegmentKey]:
    return [node.entry.key for node in policy._nodes.values()]


def naive_order(
    policy: RankedPolicy, held: set[SegmentKey], next_use: dict[SegmentKey, int]
) -> list[SegmentKey]:
    """Again and again the leaf that goes first, by looking at all of them."""
    nodes = {node.entry.key: node for node in policy._nodes.values()}
    found = list[SegmentKey]()
    last = len(SPECS)
    while True:
        parents = {node.entry.spec.parent for node in nodes.values()}
        leaves = [k for k in nodes if k.digest not in parents and k not in held]
        if not leaves:
            return found
        key = min(leaves, key=lambda k: (k in next_use, -next_use.get(k, last), nodes[k].rank))
        del nodes[key]
        found.append(key)


@pytest.mark.parametrize("name", POLICIES)
@given(
    STEPS,
    st.dictionaries(st.integers(0, len(SPECS) - 1), st.integers(0, 3), max_size=4),
)
@settings(max_examples=60)
def test_the_order_is_that_of_the_model(
    name: PolicyName, steps: list[tuple[str, int]], needed: dict[int, int]
) -> None:
    policy = create_policy(name)
    assert isinstance(policy, RankedPolicy)
    held: set[SegmentKey] = set()
    for what, i in steps:
        spec = SPECS[i]
        here = policy._nodes.has(spec.key.digest)
        if what == "use" and here:
            policy.on_access(entry(spec))
        elif what == "use":
            policy.on_insert(entry(spec), 0.001 * i or None)
        elif what == "hold":
            policy.hold(spec.key.digest)
            held.add(spec.key)
        elif what == "unhold":
            policy.unhold(spec.key.digest)
            held.discard(spec.key)
        elif here:
            policy.on_remove(entry(spec), evicted=what == "evict")
        assert policy.check(keys_of(policy)) == []
    next_use = {SPECS[i].key: rank for i, rank in needed.items()} if policy.looks_ahead else {}
    assert list(policy.order(next_use)) == naive_order(policy, held, next_use)
    assert all(policy.loss(key) >= 0 for key in keys_of(policy))


@given(STEPS, st.sets(st.integers(0, 2)))
def test_the_order_of_some_tenants_is_that_of_all_without_the_others(
    steps: list[tuple[str, int]], chosen: set[int]
) -> None:
    of_three = [replace(spec, tenant=bytes([i % 3]) * 8) for i, spec in enumerate(ROOTS)]
    policy = create_policy("lru")
    here: set[int] = set()
    for what, n in steps:
        i = n % len(of_three)
        if what in ("remove", "evict") and i in here:
            here.remove(i)
            policy.on_remove(entry(of_three[i]), evicted=what == "evict")
        elif what == "use" and i in here:
            policy.on_access(entry(of_three[i]))
        elif what == "use":
            here.add(i)
            policy.on_insert(entry(of_three[i]))
        (policy.hold if what == "hold" else policy.unhold)(of_three[i].key.digest)
    tenants = {bytes([number]) * 8 for number in chosen}
    tenant_of = {spec.key: spec.tenant for spec in of_three}
    expected = [key for key in policy.order({}) if tenant_of[key] in tenants]
    assert list(policy.order({}, tenants.__contains__)) == expected


def test_what_is_held_is_not_even_looked_at() -> None:
    policy, specs = create_policy("lru"), siblings(40)
    fill(policy, *specs)
    for spec in specs[:30]:
        policy.hold(spec.key.digest)
    assert isinstance(policy, RankedPolicy)
    assert len(list(policy._leaves)) == 10, "a miss passes over none of them"
    assert next(policy.order({})) == specs[30].key
    policy.unhold(specs[3].key.digest)
    assert next(policy.order({})) == specs[3].key, "at the place of its last use"


def victims(
    policy: EvictionPolicy, num: int, next_use: dict[SegmentKey, int] | None = None
) -> list[SegmentKey]:
    return list(islice(policy.order(next_use or {}), num))


def fill(policy: EvictionPolicy, *specs: SegmentSpec) -> list[SegmentKey]:
    for spec in specs:
        policy.on_insert(entry(spec))
    return [spec.key for spec in specs]


def siblings(num: int) -> Path:
    return tuple(chain_of([1], passage(10 + i))[1] for i in range(num))


def test_lru_evicts_what_was_used_longest_ago() -> None:
    policy, specs = create_policy("lru"), siblings(3)
    keys = fill(policy, *specs)
    policy.on_access(entry(specs[0]))
    assert victims(policy, 3) == [keys[1], keys[2], keys[0]]


def test_lfu_evicts_what_was_used_least() -> None:
    policy, specs = create_policy("lfu"), siblings(3)
    keys = fill(policy, *specs)
    for spec in (specs[0], specs[0], specs[2]):
        policy.on_access(entry(spec))
    policy.on_access(entry(specs[1]))
    assert victims(policy, 3) == [keys[2], keys[1], keys[0]]


@pytest.mark.parametrize("name", ["gdsf", "pgdsf"])
def test_the_clock_lets_what_was_once_popular_go(name: PolicyName) -> None:
    policy, specs = create_policy(name), siblings(40)
    popular = specs[0]
    policy.on_insert(entry(popular))
    for _ in range(5):
        policy.on_access(entry(popular))
    evicted = []
    for spec in specs[1:]:
        policy.on_insert(entry(spec))
        (victim,) = victims(policy, 1)
        policy.on_remove(entry(next(s for s in specs if s.key == victim)), evicted=True)
        evicted.append(victim)
    assert popular.key in evicted and evicted.index(popular.key) > 2


def test_gdsf_keeps_what_is_dear_to_compute_by_token() -> None:
    """A pass has a fixed cost, so short segments are dearer by token."""
    policy = create_policy("gdsf")
    short, long = chain_of([1], [2] * 4)[1], chain_of([1], [3] * 400)[1]
    keys = fill(policy, short, long)
    assert victims(policy, 2) == [keys[1], keys[0]]


def test_pgdsf_goes_by_what_it_did_cost_and_remembers_it() -> None:
    policy, (cheap, dear) = create_policy("pgdsf"), siblings(2)
    policy.on_insert(entry(dear), 0.9)
    policy.on_insert(entry(cheap), 0.1)
    assert victims(policy, 1) == [cheap.key]
    for spec in (dear, cheap):
        policy.on_remove(entry(spec), evicted=True)
    policy.on_insert(entry(dear))  # read back from a slower tier: nothing was computed
    policy.on_insert(entry(cheap))
    assert victims(policy, 1) == [cheap.key]


def test_what_is_removed_moves_no_clock_and_is_forgotten() -> None:
    policy, (first, second) = create_policy("pgdsf"), siblings(2)
    assert isinstance(policy, RankedPolicy)
    policy.on_insert(entry(first), 0.9)
    policy.on_remove(entry(first), evicted=False)
    policy.on_insert(entry(second), 0.1)
    policy.on_insert(entry(first))
    assert policy._node(first.key).history.uses == 1
    assert policy._node(second.key).rank[0] == pytest.approx(0.1)


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_needed_next_goes_last(name: PolicyName) -> None:
    policy, specs = create_policy(name), siblings(4)
    keys = fill(policy, *specs)
    later = {keys[0]: 0, keys[1]: 3}
    order = victims(policy, 4, later)
    looks_ahead = name.startswith("lookahead")
    last = [keys[1], keys[0]] if looks_ahead else keys[2:]
    assert order[2:] == last, "of what is needed, the last to be needed first"
    assert policy.looks_ahead is looks_ahead


def test_an_unknown_policy_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fifo', must be one of lru, lfu, gdsf, pgdsf, look"):
        create_policy("fifo")  # type: ignore[arg-type]  # what a caller without types may do


def test_the_profile_decides_what_is_dear() -> None:
    dear_when_long = PrefillProfile((0,), (1, 1000), ((0.001, 1000.0),))
    policy = create_policy("gdsf", dear_when_long)
    short, long = chain_of([1], [2] * 4)[1], chain_of([1], [3] * 400)[1]
    keys = fill(policy, short, long)
    assert victims(policy, 2) == keys, "the other way round than with the default"
