"""`acquire` lets others have the lock in between: whatever they do there, its answer is right, each
segment is computed by one, and nobody waits for who waits for him."""

from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

import pytest

from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Path, SegmentKey
from tests.kvstore.between import Between
from tests.kvstore.machine.model import require_answer
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    fill,
    passage,
    small_config,
    store_path,
)

HEAD = chain_of(TRUNK, passage(1))
PATHS = [chain_of(TRUNK, passage(1), passage(n), passage(10 + n)) for n in range(2, 6)]
LAST_TWO = [PATHS[2], PATHS[3]]
KEYS = [spec.key for path in PATHS for spec in path[2:]]


class Two:
    """Clients of one store, of which the second acts between two turns of the first."""

    def __init__(self, folder: FilePath, patch: pytest.MonkeyPatch, **changes: str) -> None:
        self.config = small_config(folder, **{"ssd_dir": "", **changes})
        self.store, self.between = KVStore(self.config, "node"), Between(patch)
        self.one, self.other = (LocalStoreClient(self.store, self.config.dram_dir) for _ in "12")
        self.theirs: list[Acquired] = []

    def acquire(self, *paths: Path) -> None:
        self.theirs.append(self.other.acquire(list(paths), 5))

    def finish(self, client: LocalStoreClient, acquired: Acquired) -> None:
        tickets = [ticket for ticket in acquired.tickets.values() if ticket.extent is not None]
        fill(client, acquired, tickets)
        client.commit(acquired, tickets)
        client.release(acquired.lease_id)

    def close(self) -> None:
        assert_balanced(self.store)
        self.one.close()
        self.other.close()
        assert self.store.stats().leases == self.store.stats().open_tickets == 0
        assert_balanced(self.store)
        self.store.close()


@pytest.fixture
def two(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    two = Two(tmp_path, monkeypatch)
    yield two
    two.close()


def start_over(two: Two) -> None:
    two.store.remove_tags({spec.tag for path in PATHS for spec in path})
    store_path(two.one, HEAD)


def computed_by(acquired: Acquired) -> set[SegmentKey]:
    return {key for key, ticket in acquired.tickets.items() if ticket.extent is not None}


def store_and_claim(two: Two) -> None:
    store_path(two.other, PATHS[0])
    two.acquire(*PATHS)


BETWEEN: dict[str, Callable[[Two], object]] = {
    "claims the last": lambda two: two.acquire(*LAST_TWO),
    "claims parts": lambda two: two.acquire(PATHS[1][:3], PATHS[3][:3]),
    "claims from a tail": lambda two: two.acquire(PATHS[1][3:]),
    "stores the last": lambda two: store_path(two.other, *LAST_TWO),
    "stores parts": lambda two: store_path(two.other, PATHS[1][:3], PATHS[3][:3]),
    "stores tails": lambda two: store_path(two.other, PATHS[1][3:]),
    "stores and claims": store_and_claim,
}


@pytest.mark.parametrize("what", BETWEEN)
def test_what_others_claim_or_store_between_two_turns(two: Two, what: str) -> None:
    num_turns, was_done = 0, True
    while was_done:
        start_over(two)
        two.between.arm(num_turns, lambda: BETWEEN[what](two))
        mine = two.one.acquire(PATHS, 5)
        was_done = two.between.disarm()
        require_answer(mine, PATHS, claim=True)
        assert_right_bytes(two.one, mine)
        assert not computed_by(mine) & two.store.locate(KEYS).keys(), "what is there is a hit"
        for path in PATHS:
            waits = [i for i, spec in enumerate(path) if spec.key in mine.waiters]
            behind = path[waits[0] :] if waits else ()
            assert not any(spec.key in mine.tickets for spec in behind)
        for theirs in two.theirs:
            assert not computed_by(mine) & computed_by(theirs), "each is computed by one"
            assert not (mine.waiters & computed_by(theirs) and theirs.waiters & computed_by(mine))
        assert_balanced(two.store)
        while two.theirs:
            two.finish(two.other, two.theirs.pop())
        two.finish(two.one, mine)
        store_path(two.one, *PATHS)
        assert set(KEYS) <= two.store.locate(KEYS).keys()
        num_turns += 1
    assert num_turns > 30


@pytest.mark.parametrize("removed", [1, 2])
def test_what_is_removed_between_two_turns_does_not_come_back(two: Two, removed: int) -> None:
    """Neither what follows a hit that was pinned by then, nor what was to be computed by then. What
    is looked at behind the removal is new."""
    keys = [spec.key for spec in PATHS[0][removed:]]
    num_turns, num_gone, was_done = 0, 0, True
    while was_done:
        start_over(two)
        two.between.arm(num_turns, lambda: two.store.remove_tags([PATHS[0][removed].tag]))
        mine = two.one.acquire(PATHS, 5)
        was_done = two.between.disarm()
        require_answer(mine, PATHS, claim=True)
        assert_balanced(two.store)
        two.finish(two.one, mine)
        found = two.store.locate(keys).keys()
        if was_done:
            assert found in (set(), set(keys)), "nothing is kept without what it follows"
            assert not (keys[0] in mine.hits and found)
            num_gone += not found
        num_turns += 1
    assert num_turns > num_gone > 5


def test_a_process_that_ends_between_two_turns(two: Two) -> None:
    store_path(two.one, HEAD)
    num_turns, was_done = 0, True
    while was_done:
        two.between.arm(num_turns, lambda: two.store.unregister(two.one.holder_id))
        try:
            acquired = two.one.acquire(PATHS, 5)
            two.one.release(acquired.lease_id)
        except StoreUnavailableError:
            pass
        was_done = two.between.disarm()
        assert two.store.stats().leases == two.store.stats().open_tickets == 0
        assert_balanced(two.store)
        num_turns += 1
    assert num_turns > 30


def test_paths_that_change_during_the_call(two: Two) -> None:
    """They are those of the call's entry."""
    store_path(two.one, HEAD)
    for turn in range(0, 30, 3):
        paths = [list(path) for path in PATHS]

        def change() -> None:
            del paths[2:], paths[0][1:]  # noqa: B023
            paths[1][:] = PATHS[3][2:] * 9  # noqa: B023

        two.between.arm(turn, change)
        acquired = two.one.acquire(paths, 5)  # type: ignore[arg-type]
        assert two.between.disarm()
        require_answer(acquired, PATHS, claim=True)
        assert acquired.tickets.keys() == set(KEYS)
        two.one.release(acquired.lease_id)
        assert_balanced(two.store)
