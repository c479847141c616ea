"""The window that is chosen, against all windows that there are."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore import windows
from kvstore.allocator import Allocator, Run
from kvstore.occupants import Occupants
from kvstore.policies import create_policy
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.turns import at_once
from kvstore.types import SegmentKey
from kvstore.windows import WindowSearch
from tests.kvstore.segments import chain_of, passage

SPECS = list(
    {
        spec.key: spec
        for a in range(2, 6)
        for b in range(6, 9)
        for spec in chain_of(passage(a), passage(b), passage(a + b))
    }.values()
)
DEAR = 1000


class Filled:
    """A small arena full of segments, some of which weigh nothing to nobody: they are held."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.shelf = Shelf(create_policy("lru"))
        self.allocator = Allocator(60)
        self.occupants = Occupants(self.allocator)
        self.weights: dict[SegmentKey, int | None] = {}
        for spec in rng.sample(SPECS, rng.randrange(1, len(SPECS))):
            length = rng.choice((1, 1, 2, 3, 6))
            if self.allocator.can_allocate(length):
                self.occupants.enter(spec.key, self.allocator.allocate(length))
                self.shelf.add(Entry(spec, length, 0.0))
                weight = rng.choice((1, 2, 5, 20, 2 * DEAR, None))
                self.weights[spec.key] = weight
                if weight is None:
                    self.shelf.policy.hold(spec.key.digest)
        if rng.random() < 0.5 and self.allocator.can_allocate(1):
            self.allocator.allocate(1)  # somebody's reservation

    def chosen(self, length: int) -> list[SegmentKey]:
        search = WindowSearch(self.occupants, self.shelf, self.weights.__getitem__, length, DEAR)
        return at_once(search.choosing(lambda: self.shelf.policy.order({})))

    def cost(self, keys: set[SegmentKey]) -> int:
        return sum(self.weights[key] or 0 for key in keys)

    def families(self) -> Iterator[set[SegmentKey]]:
        """What goes with each run of neighbours that may go at all."""
        runs = self.runs()
        for start in range(len(runs)):
            going: set[SegmentKey] = set()
            for run in runs[start:]:
                key = self.occupants.at(run.start)
                if run.taken and (key is None or not self.may_go(key)):
                    break
                if key is not None:
                    going |= set(self.shelf.family(key, 99) or ())
                yield set(going)

    def may_go(self, key: SegmentKey) -> bool:
        return all(self.weights[one] is not None for one in self.shelf.family(key, 99) or ())

    def runs(self) -> list[Run]:
        runs, at = [], 0
        while run := self.allocator.run_from(at):
            runs.append(run)
            at += run.length
        return runs

    def evict(self, keys: list[SegmentKey]) -> None:
        for key in keys:
            assert not self.shelf.children(key.digest), "each before its parent"
            self.allocator.free(self.occupants.start_of(key))
            self.occupants.leave(key)
            self.shelf.remove(key, evicted=True)


def makes_room(seed: int, keys: set[SegmentKey], length: int) -> bool:
    filled = Filled(seed)
    for key in keys:
        filled.allocator.free(filled.occupants.start_of(key))
    return filled.allocator.can_allocate(length)


@given(st.integers(0, 10**9), st.integers(1, 40))
@settings(max_examples=150)
def test_a_window_is_found_where_there_is_one_and_makes_room(seed: int, length: int) -> None:
    filled = Filled(seed)
    if filled.allocator.can_allocate(length):
        return
    found = filled.chosen(length)
    possible = [keys for keys in filled.families() if makes_room(seed, keys, length)]
    assert bool(found) == bool(possible)
    assert all(filled.weights[key] is not None for key in found)
    filled.evict(found)
    assert not found or filled.allocator.can_allocate(length)
    assert filled.shelf.check("shelf", filled.shelf.nbytes) == []


@given(st.integers(0, 10**9), st.integers(1, 40))
@settings(max_examples=150)
def test_no_window_is_cheaper(seed: int, length: int) -> None:
    """Of those around all seeds; where one of them makes room alone, the search ends there."""
    filled = Filled(seed)
    if filled.allocator.can_allocate(length):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_MAX_SEEDS", len(SPECS))
        found = filled.chosen(length)
    order = list(filled.shelf.policy.order({}))
    costs = [filled.cost(keys) for keys in filled.families() if makes_room(seed, keys, length)]
    for seed_key in order:
        if filled.occupants.length_if_free(seed_key) >= length:
            family = set(filled.shelf.family(seed_key, 99) or ())
            if (alone := filled.cost(family)) < DEAR:
                assert filled.cost(set(found)) <= alone
                return
    assert not found or filled.cost(set(found)) == min(costs)


def test_neighbours_go_together_rather_than_half_of_all() -> None:
    filled = Filled(0)
    filled.shelf, filled.allocator = Shelf(create_policy("lru")), Allocator(1000)
    filled.occupants = Occupants(filled.allocator)
    specs = [chain_of(passage(n, 2))[0] for n in range(1000)]
    starts = list(range(1000))
    random.Random(1).shuffle(starts)
    for start, spec in enumerate(specs):
        filled.occupants.enter(spec.key, filled.allocator.allocate(1))
        assert filled.occupants.start_of(spec.key) == start
    for start in starts:  # in random order of use
        filled.shelf.add(Entry(specs[start], 1, 0.0))
        filled.weights[specs[start].key] = 1
    assert len(filled.chosen(45)) == 45


@pytest.mark.parametrize("length", [2, 30])
def test_what_many_follow_stays(length: int) -> None:
    """A prompt prefix, behind which everything is, ends a window as if it were held."""
    filled = Filled(0)
    filled.shelf, filled.allocator = Shelf(create_policy("lru")), Allocator(1200)
    filled.occupants = Occupants(filled.allocator)
    trunk = chain_of([1])[0]
    for spec in (*(chain_of([1], [n, n])[1] for n in range(1199)), trunk):
        filled.occupants.enter(spec.key, filled.allocator.allocate(1))
        filled.shelf.add(Entry(spec, 1, 0.0))
        filled.weights[spec.key] = 1
    found = filled.chosen(length)
    assert len(found) == length and trunk.key not in found
