"""A removal lets others have the lock in between: whatever they do there, nothing comes back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired
from tests.kvstore.between import Between
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    chain_of,
    fill,
    passage,
    small_config,
    store_path,
)

LONG = chain_of(TRUNK, passage(1), passage(2), passage(3))
BESIDE = chain_of(TRUNK, passage(1), passage(4))
NEW = chain_of(TRUNK, passage(1), passage(2), passage(3), passage(5))
NEW_BESIDE = chain_of(TRUNK, passage(1), passage(4), passage(8))
OTHER = chain_of(TRUNK, passage(1), passage(6), passage(7))
TAG = LONG[1].tag
GONE = list({spec.key for path in (NEW, NEW_BESIDE, OTHER) for spec in path[1:]})


def finish(client: LocalStoreClient, acquired: Acquired) -> None:
    tickets = [t for t in acquired.tickets.values() if t.extent is not None]
    fill(client, acquired, tickets)
    client.commit(acquired, tickets)
    client.release(acquired.lease_id)


@pytest.mark.parametrize("what", ["commits", "computes", "claims", "claims again", "reads"])
@pytest.mark.parametrize("tier", ["dram", "ssd"])
def test_nothing_between_two_turns_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tier: str, what: str
) -> None:
    config = small_config(tmp_path, **({"ssd_dir": ""} if tier == "dram" else {}))
    store, between = KVStore(config, "node"), Between(monkeypatch)
    client = LocalStoreClient(store, config.dram_dir)
    open_: list[Acquired] = []
    actions: dict[str, Callable[[], object]] = {
        "commits": lambda: finish(client, open_.pop()),
        "computes": lambda: store_path(client, OTHER),
        "claims": lambda: open_.append(client.acquire([LONG, OTHER], 5)),
        "claims again": lambda: open_.append(client.acquire([LONG], 5)),
        "reads": lambda: open_.append(client.acquire([LONG, BESIDE], 5, claim=False)),
    }
    num_turns, was_done = 0, True
    while was_done:
        store_path(client, LONG, BESIDE)
        open_.append(client.acquire([NEW, NEW_BESIDE], 5))
        assert store.flush(10) and len(store.locate(GONE)) == 4
        between.arm(num_turns, actions[what])
        assert store.remove_tags([TAG]) in range(4, 8)
        was_done = between.disarm()
        assert store.locate(GONE) == {}
        while open_:
            finish(client, open_.pop())
        assert store.locate(GONE) == {}
        num_turns += 1
    assert num_turns > 10
    assert store._books.removing == []
    client.close()
    assert store.flush(10)
    assert_balanced(store)
    store.close()
