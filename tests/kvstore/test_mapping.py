import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import assert_right_bytes, chain_of, compute, passage, payload

PATH = chain_of(passage(1), passage(2))


def restarted(client: LocalStoreClient, store: KVStore, config: StoreConfig) -> KVStore:
    store.close()
    client._store = KVStore(config, "node")
    return client._store


def test_an_old_arena_stays_mapped_while_a_lease_from_it_is_open(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    client.release(compute(client, PATH).lease_id)
    old = client.acquire([PATH], 5)
    store = restarted(client, store, config)
    new = client.acquire([PATH], 5)
    assert new.arena.incarnation != old.arena.incarnation
    assert_right_bytes(client, old)
    assert_right_bytes(client, new)
    view = client.view(old, old.hits[PATH[0].key].extent)
    client.release(old.lease_id)
    with pytest.raises(StoreUnavailableError, match="arena is gone"):
        client.view(old, old.hits[PATH[0].key].extent)
    assert bytes(view) == payload(PATH[0])
    client.close()
    store.close()


def test_tickets_of_another_incarnation_are_not_open(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    old = client.acquire([PATH], 5)
    store = restarted(client, store, config)
    new = client.acquire([PATH], 5)
    assert len(new.tickets) == 2
    with pytest.raises(StoreUnavailableError, match="is not open"):
        client.commit(old, list(old.tickets.values()))
    client.abort(old, list(old.tickets.values()))
    client.release(old.lease_id)
    assert store.stats().open_tickets == 2, "nothing of the new incarnation was touched"
    client.close()
    store.close()
