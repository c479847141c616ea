"""A disk whose reads a test lets pass one by one, and what has come of them."""

from dataclasses import replace
from pathlib import Path as FilePath

from kvstore.codec import header_nbytes
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Hit, Path, SegmentSpec
from tests.kvstore.segments import (
    assert_balanced,
    chain_of,
    passage,
    store_path,
)
from tests.kvstore.turnstile import Turnstile
from tests.kvstore.waiting import eventually

LAYERS = 6
PATH = chain_of(passage(1), layers=LAYERS)
SPEC = PATH[0]
PATHS = [chain_of(passage(i, 16), layers=LAYERS) for i in range(2, 14)]
HEADER = 1
"""Reads of a segment before those of its layers."""


class Disk:
    """A store whose SSD has everything and whose DRAM is empty, behind a turnstile."""

    def __init__(self, config: StoreConfig, **changes: float | str) -> None:
        filled = KVStore(config, "node")
        client = LocalStoreClient(filled, config.dram_dir)
        store_path(client, PATH, *PATHS)
        assert filled.flush(10)
        client.close()
        filled.close()
        self.config = replace(config, **changes)  # type: ignore[arg-type]
        self.store = KVStore(self.config, "node")
        assert self.store.flush(10), "it has read the headers"
        self.client = LocalStoreClient(self.store, config.dram_dir)
        self.gate = Turnstile.of(self.store)

    def streamed(self, *paths: Path) -> Acquired:
        return self.client.acquire(paths or [PATH], 10, streamed=True)

    def spoil(self, spec: SegmentSpec, layer: int) -> None:
        """One bit of a layer on the disk."""
        path = next(FilePath(self.config.ssd_dir).glob(f"?/?/*{spec.key.digest.hex()}*"))
        with path.open("r+b") as file:
            file.seek(header_nbytes(LAYERS) + layer * spec.layout.layer_nbytes)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))

    def close(self) -> None:
        self.gate.mend()
        self.gate.allow()
        self.client.close()
        settled(self.store)
        assert_balanced(self.store)
        assert self.store.stats().leases == 0
        self.store.close()


def settled(store: KVStore) -> None:
    assert eventually(lambda: not reading(store), 10), "reads have ended"


def reading(store: KVStore) -> list[SegmentSpec]:
    with store._books.lock:
        return [load.spec for load in store._loads]


def only(acquired: Acquired) -> Hit:
    (hit,) = acquired.hits.values()
    return hit


def has(disk: Disk, acquired: Acquired, layer: int, within_s: float = 10.0) -> bool:
    extents = [hit.extent for hit in acquired.hits.values()]
    return disk.client.await_layer(acquired, extents, layer, within_s)
