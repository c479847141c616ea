"""Chains over the tiers: what can be matched from the root is kept, what cannot is not."""

import random
from dataclasses import replace
from pathlib import Path

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.acting import Actor
from tests.kvstore.segments import (
    assert_balanced,
    chain_of,
    passage,
    small_config,
    store_path,
)


def orphans(store: KVStore) -> list[str]:
    """Segments in DRAM whose parent only a slower tier has."""
    books = store._books
    with books.lock:
        if list(store._loads):
            return []  # a child may land a moment before its parent
        slots = books.dram.slots()
        here = {slot.spec.key.digest for slot in slots}
        below = {spec.key.digest for level in books.levels for spec in level.shelf.specs()}
        return [str(s.spec.key) for s in slots if s.spec.parent in below - here]


def test_a_parent_is_never_in_a_slower_tier_than_its_children(tmp_path: Path) -> None:
    config = small_config(tmp_path, dram_bytes=2**17, ssd_bytes=2**17, write_queue=8)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    actor = Actor(client, random.Random(1), deadlines_s=(20.0,), commit_share=1.0)
    for act in range(4000):
        actor.act()
        assert orphans(store) == []
        stats = store.stats()
        if act >= 400 and stats.ssd.evictions > 50 and stats.ssd.hits > 20:
            break
    assert stats.dram.evictions > 50 and stats.ssd.evictions > 50 and stats.ssd.hits > 20
    client.close()
    assert_balanced(store)
    store.close()


def test_calls_that_contradict_each_other_leave_a_tree(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    """A digest under two placements, and a cycle, over several calls: computed, and not kept."""
    one, two = chain_of(passage(1), passage(2))
    store_path(client, (two,))
    around = replace(one, parent=two.key.digest)
    moved = replace(two, key=two.key._replace(placement=b"elsewher"))
    for strange in (around, moved):
        store_path(client, (strange,))
        assert list(client.acquire([(strange,)], 1).tickets) == [strange.key]
    assert client.acquire([(two,)], 1).hits
    client.close()
    assert store.flush(10)
    other = LocalStoreClient(store, config.dram_dir)
    for number in range(10, 130):
        store_path(other, chain_of(passage(number)))
    assert store.stats().dram.evictions > 0
    assert store.remove_tags([two.tag]) == 1
    other.close()
    assert_balanced(store)
