"""No call holds the metadata lock for long, however much it is about: others come between.

Measured in processor time, which a busy machine does not lengthen.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from kvstore.chains import MAX_SEGMENTS
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.membership import Member, Membership
from kvstore.ownership import Ownership
from kvstore.store import KVStore
from kvstore.types import Acquired, HolderId, Path, SegmentKey
from tests.kvstore.held import HeldLock, crcs_of_zeros, store_all, tiny_family, tiny_paths, watched
from tests.kvstore.segments import assert_balanced, small_config

NUM = 12_000
_MAX_S = 0.010
"""In one hold, what is done here takes 50 ms to seconds."""


@pytest.fixture(scope="module")
def paths() -> list[Path]:
    return tiny_paths(NUM)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> StoreConfig:
    folder = tmp_path_factory.mktemp("held")
    settings = {"dram_bytes": (NUM + 100) * 4096, "ssd_dir": "", "copies_share": 1.0}
    return small_config(folder, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def full(config: StoreConfig, paths: list[Path]) -> Iterator[tuple[KVStore, HeldLock]]:
    with watched(config) as (store, lock):
        store_all(store, config, paths)
        yield store, lock


def owned_by(name: str) -> Ownership:
    return Ownership(Membership(1, (Member(name, name, 100),)), "here")


def let_go(store: KVStore, paths: list[Path]) -> None:
    store.own(owned_by("elsewhere"))
    store.let_go([path[0].key for path in paths])
    assert store.stats().copies_bytes == NUM * 4096
    store.own(owned_by("here"))
    assert store.stats().copies_bytes == 0


def keys_of(paths: list[Path]) -> list[SegmentKey]:
    """Each of them five times, as nobody says that they are few."""
    return [path[0].key for path in paths] * 5


CALLS: dict[str, Callable[[KVStore, list[Path]], object]] = {
    "holdings": lambda store, paths: store.holdings(),
    "kept": lambda store, paths: store.kept(keys_of(paths)),
    "locate": lambda store, paths: store.locate(keys_of(paths)),
    "checksums": lambda store, paths: store.checksums(keys_of(paths)),
    "lineages": lambda store, paths: store.lineages(keys_of(paths)),
    "wait": lambda store, paths: store.wait(keys_of(paths), 5),
    "note_uses": lambda store, paths: store.note_uses(keys_of(paths)),
    "let_go": let_go,
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_about_everything_is_done_in_turns(
    full: tuple[KVStore, HeldLock], paths: list[Path], call: str
) -> None:
    store, lock = full
    lock.reset()
    CALLS[call](store, paths)
    assert lock.longest_cpu_s < _MAX_S, lock.longest_by


def test_the_end_of_a_process_with_many_leases(
    full: tuple[KVStore, HeldLock], config: StoreConfig, paths: list[Path]
) -> None:
    store, lock = full
    client = LocalStoreClient(store, config.dram_dir)
    for start in range(0, 2_000, 2):
        store.acquire(paths[start : start + 2], HolderId(client.holder_id), 5)
    lock.reset()
    client.close()
    assert store.stats().leases == 0
    assert lock.longest_cpu_s < _MAX_S, lock.longest_by
    assert_balanced(store)


def test_what_a_directory_asks_for_needs_no_lock(full: tuple[KVStore, HeldLock]) -> None:
    store, lock = full
    with lock:
        assert store.capacity_bytes > NUM * 4096
        assert store.threads.gone() == []


def test_a_removal_of_many_passages(config: StoreConfig, paths: list[Path]) -> None:
    with watched(config) as (store, lock):
        store_all(store, config, paths)
        lock.reset()
        assert store.remove_tags({path[0].tag for path in paths}) == NUM
        assert lock.longest_cpu_s < _MAX_S, lock.longest_by
        assert store.stats().dram.num_segments == 0


@pytest.mark.parametrize("tier", ["dram", "ssd"])
def test_a_removal_of_one_passage_that_all_others_follow(tmp_path: FilePath, tier: str) -> None:
    num = NUM if tier == "dram" else 400
    head, family = tiny_family(num)
    config = small_config(
        tmp_path, dram_bytes=(num + 100) * 4096, write_queue=num + 1, ssd_bytes=2**30,
        ssd_dir=str(tmp_path / "ssd") if tier == "ssd" else "",
    )  # fmt: skip
    with watched(config) as (store, lock):
        store_all(store, config, [head, *family])
        assert store.flush(60)
        lock.reset()
        assert store.remove_tags([head[0].tag]) == num + 1
        assert lock.longest_cpu_s < _MAX_S, lock.longest_by
        assert store.stats().dram.num_segments == 0
        assert_balanced(store)


ENDINGS: dict[str, Callable[[KVStore, HolderId, Acquired], object]] = {
    "release": lambda store, holder, acquired: store.release(acquired.lease_id, holder),
    "trim": lambda store, holder, acquired: store.trim({acquired.lease_id: ()}, holder),
    "unregister": lambda store, holder, _: store.unregister(holder),
}


@pytest.mark.parametrize("end", ENDINGS)
def test_the_end_of_one_lease_that_holds_much(
    full: tuple[KVStore, HeldLock], config: StoreConfig, paths: list[Path], end: str
) -> None:
    store, lock = full
    client = LocalStoreClient(store, config.dram_dir)
    holder = HolderId(client.holder_id)
    acquired = store.acquire(paths[:MAX_SEGMENTS], holder, 5)
    lock.reset()
    ENDINGS[end](store, holder, acquired)
    assert store.stats().leases == 0
    assert lock.longest_cpu_s < _MAX_S, lock.longest_by
    client.close()
    assert_balanced(store)


def test_tickets_that_end_together(tmp_path: FilePath) -> None:
    config = small_config(tmp_path, dram_bytes=(NUM + 100) * 4096, ssd_dir="")
    with watched(config) as (store, lock):
        client = LocalStoreClient(store, config.dram_dir)
        acquired = client.acquire(tiny_paths(4_000), 5)
        lock.reset()
        ids = [ticket.ticket_id for ticket in acquired.tickets.values()]
        store.abort(ids, client.holder_id)
        assert store.stats().open_tickets == 0
        assert lock.longest_cpu_s < _MAX_S, lock.longest_by
        client.close()
        assert_balanced(store)


def test_a_commit_of_many_tickets(tmp_path: FilePath) -> None:
    num = 8_000
    config = small_config(tmp_path, dram_bytes=(NUM + 100) * 4096, ssd_dir="")
    with watched(config) as (store, lock):
        client = LocalStoreClient(store, config.dram_dir)
        tickets = list(client.acquire(tiny_paths(num), 5).tickets.values())
        crcs = [crcs_of_zeros(ticket.spec) for ticket in tickets]
        lock.reset()
        store.commit([ticket.ticket_id for ticket in tickets], crcs, client.holder_id)
        assert lock.longest_cpu_s < _MAX_S, lock.longest_by
        assert store.stats().commits == num
        client.close()
        assert_balanced(store)


@pytest.mark.parametrize("what", ["hits", "misses", "both"])
def test_one_request_for_much(tmp_path: FilePath, paths: list[Path], what: str) -> None:
    config = small_config(tmp_path, dram_bytes=(NUM + 100) * 4096, ssd_dir="")
    stored = {"hits": NUM, "misses": 0, "both": NUM // 2}[what]
    with watched(config) as (store, lock):
        store_all(store, config, paths[:stored])
        client = LocalStoreClient(store, config.dram_dir)
        lock.reset()
        acquired = store.acquire(paths, client.holder_id, 5)
        assert (len(acquired.hits), len(acquired.tickets)) == (stored, NUM - stored)
        assert all(ticket.extent for ticket in acquired.tickets.values())
        assert lock.longest_cpu_s < _MAX_S, lock.longest_by
        assert_balanced(store)
        client.close()


def test_room_for_a_large_segment(config: StoreConfig, paths: list[Path]) -> None:
    with watched(config) as (store, lock):
        store_all(store, config, paths)
        client, (spec,) = LocalStoreClient(store, config.dram_dir), tiny_paths(1, first=NUM)[0]
        large = replace(spec, layout=replace(spec.layout, head_dim=NUM // 20 * 512))
        lock.reset()
        acquired = store.acquire([(large,)], client.holder_id, 5)
        assert acquired.tickets[large.key].extent is not None
        assert lock.longest_cpu_s < _MAX_S, lock.longest_by
        assert store.stats().dram.evictions <= NUM // 20
        client.close()
        assert_balanced(store)
