"""`check` names every kind of book that is wrong, in turns, and keeps nobody from the arena."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.scrub import damage_of
from kvstore.store import KVStore
from kvstore.tiers.dram import Slot
from kvstore.types import Acquired, SegmentKey
from tests.kvstore.held import HeldLock, store_all, tiny_paths, watched
from tests.kvstore.segments import TRUNK, assert_balanced, chain_of, compute, passage, small_config

PATH = chain_of(TRUNK, passage(1), passage(2))
KEY = PATH[1].key


@pytest.fixture
def held(store: KVStore, client: LocalStoreClient) -> Iterator[Acquired]:
    """A chain in both tiers, pinned by one lease."""
    acquired = compute(client, PATH)
    assert store.flush(10)
    assert_balanced(store)
    yield acquired


def slot_of(store: KVStore) -> Slot:
    slot = store._books.dram.find(KEY)
    assert slot is not None
    return slot


def unpin(store: KVStore) -> None:
    slot_of(store).pins += 1


def drop_run(store: KVStore) -> None:
    """A reservation that nobody fills."""
    store._books.dram.reserve(4096, b"tenant00")


def lose_run(store: KVStore) -> None:
    """A run that is taken, and by nobody."""
    store._books.dram.runs.allocate(1)


def forget_child(store: KVStore) -> None:
    store._books.dram_shelf._children.remove(PATH[0].key.digest, KEY)


def stray_child(store: KVStore) -> None:
    stray = SegmentKey(bytes(8), bytes(32))
    store._books.dram_shelf._children.add(PATH[0].key.digest, stray)


def stale_leaf(store: KVStore) -> None:
    policy = store._books.dram_shelf.policy
    policy._leaves.add(PATH[0].tenant, ((0.0, 0), SegmentKey(bytes(8), bytes(32))))  # type: ignore[attr-defined]  # the policy's own


def forget_node(store: KVStore) -> None:
    store._books.dram_shelf.policy._nodes.pop(KEY.digest)  # type: ignore[attr-defined]  # the policy's own


def miscount(store: KVStore) -> None:
    store._books.dram_shelf.nbytes += 1


def miscount_tenant(store: KVStore) -> None:
    store._books.dram.shares.take(b"tenant00", 1)


def hold(store: KVStore) -> None:
    store._books.dram.holds.begin(PATH[2].key.digest)


def lose_lease(store: KVStore) -> None:
    """Its pins stay."""
    store._books.leases._open.clear()


def drop_from_shelf(store: KVStore) -> None:
    store._books.levels[0].shelf.remove(KEY)


def drop_from_tier(store: KVStore) -> None:
    store._books.levels[0].tier._ledger.drop(KEY)


def generation(store: KVStore) -> None:
    store._books.dram._arena.retire(slot_of(store).extent)


WRONG: dict[str, tuple[Callable[[KVStore], None], str]] = {
    "a pin that no lease has": (unpin, "2 pins, 1 leases hold it"),
    "a reservation of nobody": (drop_run, "1 extents are reserved, 0 by"),
    "a run of nobody": (lose_run, "do not cover"),
    "a child that its parent does not know": (forget_child, "no child of its parent"),
    "a child that is not there": (stray_child, "among children or tags"),
    "a leaf that is not there": (stale_leaf, "in the order of eviction"),
    "an entry that the policy does not know": (forget_node, "the policy"),
    "bytes that nobody has": (miscount, "entries of"),
    "bytes of a tenant that nobody has": (miscount_tenant, "takes"),
    "a hold without a reason": (hold, "holds of"),
    "a lease that is lost": (lose_lease, "1 pins, 0 leases hold it"),
    "an object that the shelf does not know": (drop_from_shelf, "is None on the shelf"),
    "an entry without an object": (drop_from_tier, "None in the tier"),
    "an extent that was given away": (generation, "has generation"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_book_that_is_wrong_is_named(store: KVStore, held: Acquired, kind: str) -> None:
    spoil, line = WRONG[kind]
    with store._books.lock:
        spoil(store)
    problems = store.check().problems
    assert any(line in problem for problem in problems), problems


def test_a_full_arena_has_room_while_it_is_checked(
    store: KVStore, client: LocalStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New segments come in, at the cost of others, while the bytes of one are verified."""
    paths = [chain_of(passage(n)) for n in range(200)]
    for path in paths[:100]:
        client.release(compute(client, path).lease_id)
    assert store.flush(10)
    news = iter(paths[100:])

    def damage(*args: object) -> None:
        if (path := next(news, None)) is not None:
            acquired = compute(client, path)
            assert all(ticket.extent for ticket in acquired.tickets.values())
            client.release(acquired.lease_id)

    monkeypatch.setattr("kvstore.audit.damage_of", damage)
    assert store.check().ok
    assert store.stats().no_room == 0
    assert damage_of is not damage


@pytest.mark.parametrize("skipped", [0, 64])
def test_what_goes_while_it_is_looked_at_is_not_wrong(
    store: KVStore, client: LocalStoreClient, monkeypatch: pytest.MonkeyPatch, skipped: int
) -> None:
    """A passage is removed whenever the look at entries, or at who follows whom, pauses."""
    paths = [chain_of(TRUNK, passage(n)) for n in range(60)]
    for path in paths:
        client.release(compute(client, path).lease_id)
    checker, tags, paused = threading.get_ident(), [path[-1].tag for path in paths], 0

    def pause(seconds: float) -> None:
        nonlocal paused
        if threading.get_ident() != checker:
            return
        paused += 1
        if paused > skipped and tags:
            tag = tags.pop()
            monkeypatch.setattr("kvstore.turns.time.sleep", sleep)
            store.remove_tags([tag])
            monkeypatch.setattr("kvstore.turns.time.sleep", pause)

    grouped = store._books.dram_shelf.grouped

    def begin() -> Iterator[SegmentKey | None]:
        monkeypatch.setattr("kvstore.turns._TURN_S", 0.0)
        monkeypatch.setattr("kvstore.turns.time.sleep", pause)
        return grouped()

    sleep = time.sleep
    monkeypatch.setattr(store._books.dram_shelf, "grouped", begin)
    assert store.check().problems == ()
    assert len(tags) < 30


def test_check_holds_the_lock_for_moments(tmp_path_factory: pytest.TempPathFactory) -> None:
    num = 12_000
    settings: dict[str, float | str] = {"dram_bytes": (num + 100) * 4096, "ssd_dir": ""}
    config: StoreConfig = small_config(tmp_path_factory.mktemp("held"), **settings)
    lock: HeldLock
    with watched(config) as (store, lock):
        store_all(store, config, tiny_paths(num))
        lock.reset()
        report = store.check()
        assert report.ok and report.segments_checked == num
        assert lock.longest_cpu_s < 0.010, lock.longest_by
