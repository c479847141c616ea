"""Tenants share a store: one that floods it takes from itself, not from what others keep."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from kvstore.config import PolicyName, StoreConfig
from kvstore.keys import make_path, make_root
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout, Path
from tests.kvstore.segments import assert_balanced, compute, passage, small_config, store_path

SEGMENT = 12 * 1024
NUM_SEGMENTS = 80
DRAM_BYTES = (NUM_SEGMENTS + 1) * SEGMENT
"""With the table of the arena."""
A, B, C = ("alice", "bob", "carol")


def path_of(tenant: str, number: int, num_tokens: int = 32) -> Path:
    """One segment of three granules."""
    layout = Layout(3, 2, 0, 8, "float32")
    return make_path(make_root(b"model", tenant), [passage(number, num_tokens)], layout)


class Shared:
    """A store with room for eighty segments in DRAM, and one client."""

    def __init__(self, config: StoreConfig) -> None:
        self.store = KVStore(config, "node")
        assert self.store.flush(10)
        self.client = LocalStoreClient(self.store, config.dram_dir)

    def put(self, tenant: str, numbers: range) -> None:
        for number in numbers:
            store_path(self.client, path_of(tenant, number))

    def num_in(self, tier: str, tenant: str, numbers: range) -> int:
        keys = [path_of(tenant, number)[0].key for number in numbers]
        if tier == "dram":
            return sum(self.store._books.dram.contains(key) for key in keys)
        (level,) = self.store._books.levels
        return sum(key in level.shelf for key in keys)

    def close(self) -> None:
        assert_balanced(self.store)
        self.client.close()
        self.store.close()


@pytest.fixture
def config(tmp_path: FilePath) -> StoreConfig:
    return small_config(tmp_path, dram_bytes=DRAM_BYTES, ssd_dir="")


@pytest.fixture
def shared(config: StoreConfig) -> Iterator[Shared]:
    shared = Shared(config)
    yield shared
    shared.close()


def test_who_is_alone_borrows_all(shared: Shared) -> None:
    shared.put(A, range(200))
    assert shared.num_in("dram", A, range(200)) == NUM_SEGMENTS
    ((tenant, nbytes),) = shared.store.stats().dram.tenants
    assert (tenant, nbytes) == (path_of(A, 0)[0].tenant.hex(), NUM_SEGMENTS * SEGMENT)


@pytest.mark.parametrize("policy", ["lru", "lfu", "lookahead_pgdsf"])
def test_a_flood_takes_nothing_that_another_has_within_its_share(
    config: StoreConfig, policy: PolicyName
) -> None:
    shared = Shared(replace(config, policy=policy))
    mine = range(NUM_SEGMENTS // 4)
    shared.put(B, mine)
    shared.put(A, range(400))
    assert shared.num_in("dram", B, mine) == len(mine)
    assert shared.num_in("dram", A, range(400)) == NUM_SEGMENTS - len(mine)
    shared.close()


def test_a_flood_of_tickets_that_are_not_filled_takes_no_more(shared: Shared) -> None:
    mine = range(NUM_SEGMENTS // 4)
    shared.put(B, mine)
    acquired = shared.client.acquire([path_of(A, number) for number in range(100)], 5)
    with_room = [t for t in acquired.tickets.values() if t.extent is not None]
    assert len(with_room) == NUM_SEGMENTS - len(mine)
    assert shared.num_in("dram", B, mine) == len(mine)
    assert_balanced(shared.store)
    shared.client.release(acquired.lease_id)


def test_who_comes_back_gets_its_share_and_meets_no_error(shared: Shared) -> None:
    shared.put(A, range(100))
    acquired = compute(shared.client, *(path_of(B, number) for number in range(20)))
    assert all(ticket.extent is not None for ticket in acquired.tickets.values())
    shared.client.release(acquired.lease_id)
    shared.put(A, range(100, 200))
    assert shared.num_in("dram", B, range(20)) == 20
    shared.put(B, range(30))
    assert shared.num_in("dram", B, range(30)) == 30, "beyond its share it competes: the older go"
    shared.put(A, range(200, 300))
    assert shared.num_in("dram", B, range(30)) == 20, "and keeps its share alone"


def test_larger_segments_of_a_flood_take_nothing_either(shared: Shared) -> None:
    mine = range(0, 40, 2)
    for number in range(40):  # side by side with those of the flood
        shared.put(B if number in mine else A, range(number, number + 1))
    for number in range(100, 300):
        store_path(shared.client, path_of(A, number, 96))
    assert shared.num_in("dram", B, mine) == len(mine)


def test_without_a_share_the_flood_takes_all(config: StoreConfig) -> None:
    shared = Shared(replace(config, tenant_share=0.0, policy="lru"))
    shared.put(B, range(20))
    shared.put(A, range(200))
    assert shared.num_in("dram", B, range(20)) == 0
    shared.close()


def test_the_share_holds_on_the_ssd(tmp_path: FilePath) -> None:
    nbytes = 4096 + SEGMENT
    shared = Shared(
        small_config(tmp_path, dram_bytes=8 * SEGMENT, ssd_bytes=40 * nbytes, policy="lru")
    )
    for tenant, numbers in ((B, range(10)), (A, range(80)), (C, range(5)), (A, range(80, 120))):
        for number in numbers:
            shared.put(tenant, range(number, number + 1))
            assert shared.store.flush(10)
    assert shared.num_in("ssd", B, range(10)) == 10 and shared.num_in("ssd", C, range(5)) == 5
    assert shared.num_in("ssd", A, range(120)) == 25
    assert dict(shared.store.stats().ssd.tenants) == {
        path_of(tenant, 0)[0].tenant.hex(): num * nbytes
        for tenant, num in ((A, 25), (B, 10), (C, 5))
    }
    shared.close()


def test_one_tenants_announcements_leave_room_for_anothers(shared: Shared) -> None:
    flood = [path_of(A, number) for number in range(300)]
    for number in range(200):
        shared.client.announce(f"flood {number}", flood, 60)
    shared.client.announce("one", [path_of(B, 0)], 60)
    assert path_of(B, 0)[0].key in shared.store._books.window


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(tmp_path: FilePath, share: float) -> None:
    must = r"(in \[0, 1\]|a finite number)"
    with pytest.raises(ValueError, match=rf"store\.tenant_share is .*, must be {must}"):
        small_config(tmp_path, tenant_share=share)
