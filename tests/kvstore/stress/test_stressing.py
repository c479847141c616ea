"""A stress run notices a client that reads a wrong byte."""

import time
from pathlib import Path

from kvstore.config import StoreConfig
from kvstore.store import KVStore
from tests.kvstore.stress.rpc import StoreServer
from tests.kvstore.stress.stressing import Clients


def test_a_client_that_reads_a_wrong_byte_is_reported(
    store: KVStore, config: StoreConfig, tmp_path: Path
) -> None:
    address = str(tmp_path / "socket")
    server = StoreServer(store, address)
    clients = Clients([address, config.dram_dir], 1, 0)
    give_up = time.monotonic() + 30
    while not clients.failures and time.monotonic() < give_up:
        with store._books.lock:
            for slot in store._books.dram.slots():
                store._books.dram.view(slot.extent)[0] ^= 1
        clients.tend()
        time.sleep(0.01)
    clients.stop()
    server.close()
    (failure, *_) = clients.failures
    assert "AssertionError" in failure or "CorruptSegmentError" in failure, failure
