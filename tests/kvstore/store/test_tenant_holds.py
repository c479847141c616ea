"""Tenants that pin and reserve: what one borrows never keeps another from its share."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from kvstore.config import StoreConfig
from kvstore.keys import make_path, make_root
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Layout, Path
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    compute,
    passage,
    small_config,
    store_path,
)

SEGMENT = 12 * 1024
NUM_SEGMENTS = 80
SHARE = NUM_SEGMENTS // 4
LENT = NUM_SEGMENTS - SHARE
"""To one of two."""
A, B, C = ("alice", "bob", "carol")


def path_of(tenant: str, number: int) -> Path:
    """One segment of three granules, behind no prefix of all."""
    layout = Layout(3, 2, 0, 8, "float32")
    root = make_root(b"model", tenant)
    return make_path(root, [passage(number)], layout, own_prefix=True)


def paths_of(tenant: str, numbers: range) -> list[Path]:
    return [path_of(tenant, number) for number in numbers]


def num_extents(acquired: Acquired) -> int:
    return sum(ticket.extent is not None for ticket in acquired.tickets.values())


@pytest.fixture
def config(tmp_path: FilePath) -> StoreConfig:
    return small_config(tmp_path, dram_bytes=(NUM_SEGMENTS + 1) * SEGMENT, ssd_dir="")


@pytest.fixture
def others(store: KVStore, config: StoreConfig) -> Iterator[LocalStoreClient]:
    """Another process, which asks for what is B's and has made it active."""
    others = LocalStoreClient(store, config.dram_dir)
    others.release(others.acquire([path_of(B, 0)], 5, claim=False).lease_id)
    yield others
    others.close()
    assert_balanced(store)


def test_reservations_beyond_a_share_leave_the_others_theirs(
    client: LocalStoreClient, others: LocalStoreClient
) -> None:
    flood = client.acquire(paths_of(A, range(300)), 5)
    assert num_extents(flood) == LENT
    assert num_extents(client.acquire(paths_of(A, range(300, 400)), 5)) == 0
    mine = compute(others, *paths_of(B, range(30)))
    assert num_extents(mine) == SHARE, "which is reached, and A has the rest"
    client.release(flood.lease_id)
    assert num_extents(others.acquire(paths_of(B, range(100, 200)), 5)) == LENT - SHARE


def test_pins_beyond_a_share_leave_the_others_theirs(
    client: LocalStoreClient, others: LocalStoreClient
) -> None:
    store_path(client, *paths_of(A, range(LENT)))
    for number in range(LENT, NUM_SEGMENTS):
        store_path(client, path_of(A, number))
    pinned = client.acquire(paths_of(A, range(NUM_SEGMENTS)), 5)
    assert len(pinned.hits) == LENT and num_extents(pinned) == 0
    assert len(pinned.tickets) == NUM_SEGMENTS - LENT, "the rest is computed, and is no error"
    again = client.acquire(paths_of(A, range(NUM_SEGMENTS)), 5)
    assert again.hits.keys() == pinned.hits.keys(), "what is pinned is pinned twice at no cost"
    mine = compute(others, *paths_of(B, range(SHARE)))
    assert num_extents(mine) == SHARE
    assert_right_bytes(client, pinned)


def test_one_alone_holds_everything_and_a_newcomer_gets_what_is_let_go(
    store: KVStore, client: LocalStoreClient
) -> None:
    parts = [range(at, at + SHARE) for at in range(0, NUM_SEGMENTS, SHARE)]
    held = [compute(client, *paths_of(A, part)) for part in parts]
    assert [num_extents(acquired) for acquired in held] == [SHARE] * 4
    assert num_extents(client.acquire(paths_of(B, range(SHARE)), 5)) == 0
    client.release(held[0].lease_id)
    assert num_extents(client.acquire(paths_of(A, range(500, 510)), 5)) == 0, "it is promised"
    assert num_extents(compute(client, *paths_of(B, range(100, 130)))) == SHARE
    assert_balanced(store)


def test_with_no_share_the_first_takes_all(config: StoreConfig) -> None:
    store = KVStore(replace(config, tenant_share=0.0), "node")
    client = LocalStoreClient(store, config.dram_dir)
    client.release(client.acquire([path_of(B, 0)], 5, claim=False).lease_id)
    assert num_extents(client.acquire(paths_of(A, range(100)), 5)) == NUM_SEGMENTS
    assert num_extents(client.acquire(paths_of(B, range(10)), 5)) == 0
    client.close()
    store.close()


def test_whoever_floods_at_the_same_time_each_gets_its_share(
    store: KVStore, config: StoreConfig
) -> None:
    """Two tenants hold all that they can get, for as long as they can; a third is never refused
    what is within its share."""
    may_end, refused, lent = threading.Event(), list[int](), list[int]()

    def flood(tenant: str) -> None:
        client = LocalStoreClient(store, config.dram_dir)
        held = list[Acquired]()
        at = 0
        while not may_end.is_set():
            numbers = range(at % 100, at % 100 + 15)
            held.append(compute(client, *paths_of(tenant, numbers)))
            lent.append(num_extents(held[-1]))
            if len(held) > 8:
                client.release(held.pop(0).lease_id)
            at += 7
        client.close()

    client = LocalStoreClient(store, config.dram_dir)
    for tenant in (A, B, C):
        client.release(client.acquire([path_of(tenant, 0)], 5, claim=False).lease_id)
    floods = [threading.Thread(target=flood, args=(tenant,)) for tenant in (A, A, B, B)]
    for thread in floods:
        thread.start()
    try:
        for turn in range(60):
            mine = compute(client, *paths_of(C, range(turn, turn + SHARE)))
            refused.append(SHARE - len(mine.hits) - num_extents(mine))
            assert_right_bytes(client, mine)
            client.release(mine.lease_id)
    finally:
        may_end.set()
        for thread in floods:
            thread.join(60)
    assert not any(refused) and sum(lent) > 0
    client.close()
    assert_balanced(store)
