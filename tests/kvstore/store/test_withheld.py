"""A store that serves nothing for a while, and takes what it is given."""

import pytest

from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import TRUNK, chain_of, compute, passage, store_path

PATH = chain_of(TRUNK, passage(1))


def test_nothing_is_served_while_there_is_a_reason(
    store: KVStore, client: LocalStoreClient
) -> None:
    store_path(client, PATH)
    reasons = ["it may have been removed"]
    store.withhold_while(lambda: reasons[-1])
    with pytest.raises(StoreUnavailableError, match="it may have been removed"):
        client.acquire([PATH], 5.0)
    assert client.remove_tags([PATH[-1].tag]) == 1
    reasons.append("")
    acquired = client.acquire([PATH], 5.0, claim=False)
    assert acquired.hits.keys() == {PATH[0].key}
    client.release(acquired.lease_id)


def test_a_reason_that_comes_while_it_waits_for_a_read_counts(
    store: KVStore, client: LocalStoreClient
) -> None:
    reasons = iter(["", "it may have been removed", ""])
    store.withhold_while(lambda: next(reasons, ""))
    with pytest.raises(StoreUnavailableError, match="it may have been removed"):
        client.acquire([PATH], 5.0)
    stats = store.stats()
    assert (stats.leases, stats.open_tickets) == (0, 0)
    client.release(compute(client, PATH).lease_id)
