"""What a client says of leases and tickets that are another's: nothing comes of it."""

from collections.abc import Callable

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    crcs_of,
    fill,
    passage,
)

PATH, OTHER = (chain_of(passage(number)) for number in (1, 2))
Call = Callable[[LocalStoreClient, Acquired], object]
CALLS: dict[str, Call] = {
    "release": lambda other, acquired: other.release(acquired.lease_id),
    "trim": lambda other, acquired: other.trim({acquired.lease_id: []}),
    "abort": lambda other, acquired: other.abort(acquired, list(acquired.tickets.values())),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_ticket_is_its_own_holders_to_end(
    store: KVStore, client: LocalStoreClient, config: StoreConfig, call: str
) -> None:
    """Or its extent would be another's while it is written."""
    other = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 5)
    (ticket,) = acquired.tickets.values()
    CALLS[call](other, acquired)
    assert store.stats().open_tickets == 1
    computed = compute(other, OTHER)
    fill(client, acquired, [ticket])
    assert_right_bytes(other, other.acquire([OTHER], 5))
    client.commit(acquired, [ticket])
    assert_right_bytes(client, client.acquire([PATH], 5))
    assert computed.lease_id != acquired.lease_id
    assert_balanced(store)
    other.close()


@pytest.mark.parametrize("call", ["release", "trim"])
def test_a_pin_is_its_own_holders_to_end(
    store: KVStore, client: LocalStoreClient, config: StoreConfig, call: str
) -> None:
    other = LocalStoreClient(store, config.dram_dir)
    acquired = compute(client, PATH)
    CALLS[call](other, acquired)
    assert store.stats().leases == 1
    client.release(acquired.lease_id)
    assert store.stats().leases == 0
    other.close()


def test_a_result_is_its_own_holders_to_commit(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    other = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 5)
    (ticket,) = acquired.tickets.values()
    fill(client, acquired, [ticket])
    with pytest.raises(StoreUnavailableError, match="is not open"):
        other.publish([ticket], [crcs_of(PATH[0])])
    assert store.stats().open_tickets == 1 and store.stats().commits == 0
    client.commit(acquired, [ticket])
    assert store.stats().commits == 1
    other.close()
