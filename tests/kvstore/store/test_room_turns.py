"""Room for a large segment is made in turns: what others pin keeps its bytes, whatever they store
or remove, and the books balance."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired
from tests.kvstore.between import Between
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    passage,
    small_config,
    store_path,
)

SMALL = [chain_of(passage(n)) for n in range(26)]
NEW = [chain_of(passage(n)) for n in range(50, 54)]
SPEC = chain_of(passage(99))[0]
LARGE = replace(SPEC, layout=replace(SPEC.layout, num_tokens=8 * SPEC.layout.num_tokens))
_EVERY = 41
"""A search for room has over a thousand steps: one in so many is followed by what others do."""


def full_store(folder: FilePath) -> tuple[KVStore, LocalStoreClient]:
    config = small_config(folder, ssd_dir="", dram_bytes=24 * SPEC.layout.nbytes)
    store = KVStore(config, "node")
    return store, LocalStoreClient(store, config.dram_dir)


@pytest.mark.parametrize("what", ["pins", "stores", "removes"])
def test_what_others_do_while_room_is_made(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store, client = full_store(tmp_path)
    between, theirs = Between(monkeypatch), list[Acquired]()
    actions: dict[str, Callable[[], object]] = {
        "pins": lambda: theirs.append(client.acquire(SMALL[-3:], 5, claim=False)),
        "stores": lambda: store_path(client, *NEW),
        "removes": lambda: store.remove_tags([path[0].tag for path in SMALL[::2]]),
    }
    num_tried, num_found, was_done = 0, 0, True
    while was_done:
        for path in SMALL:
            store_path(client, path)
        assert store.stats().dram.evictions
        between.arm(_EVERY * num_tried, actions[what])
        acquired = client.acquire([(LARGE,)], 5)
        was_done = between.disarm()
        num_found += acquired.tickets[LARGE.key].extent is not None
        for held in theirs:
            assert_right_bytes(client, held)
        assert_balanced(store)
        for held in (acquired, *theirs):
            client.release(held.lease_id)
        theirs.clear()
        num_tried += 1
    assert num_tried > 10 and num_found > 5
    client.close()
    assert_balanced(store)
    store.close()
