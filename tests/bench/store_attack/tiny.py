"""Hundreds of thousands of segments in seconds: 64 zero bytes each, of which nothing is written."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from kvstore.arena import GRANULE
from kvstore.checksum import segment_crcs
from kvstore.config import StoreConfig
from kvstore.keys import extend, make_root
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout, LeaseId, SegmentSpec
from kvstore.types import Path as Chain

ROOT = make_root(b"bench", "")
LAYOUT = Layout(num_layers=1, num_kv_heads=1, num_tokens=0, head_dim=8, dtype="float32")
TRUNK = extend(ROOT, (), [0], LAYOUT)
"""What every chain begins with."""
_BATCH = 512
MEMORY = "/dev/shm"


def passages(number: int, start: int = 1, granules: int = 1) -> list[Chain]:
    """One segment behind the trunk in each, of so many granules of the arena."""
    tokens = 1 if granules == 1 else granules * GRANULE // 64
    return [extend(ROOT, TRUNK, [start + i] * tokens, LAYOUT) for i in range(number)]


def room_for(granules: int) -> int:
    """Bytes of an arena with so many granules of data."""
    tables = -(-granules * 8 // GRANULE) + -(-granules * 4 // GRANULE) + 8
    return (granules + tables + granules // 256) * GRANULE


def opened(folder: Path, granules: int, **changes: object) -> tuple[KVStore, LocalStoreClient]:
    """A store with no disk, unless the changes name one."""
    settings: dict[str, object] = {
        "dram_bytes": room_for(granules), "dram_dir": str(folder), "ssd_dir": "",
        "ssd_free_share": 1.0, "scrub_bytes_per_s": 0.0,
    }  # fmt: skip
    config = StoreConfig(**{**settings, **changes})  # type: ignore[arg-type]
    store = KVStore(config, "bench")
    return store, LocalStoreClient(store, config.dram_dir)


def fill(client: LocalStoreClient, paths: Sequence[Chain]) -> list[LeaseId]:
    """Store them all; the leases are still open, one for each batch."""
    leases, waiting = [], iter(paths)
    while batch := list(islice(waiting, _BATCH)):
        acquired = client.acquire(batch, 60.0)
        tickets = [ticket for ticket in acquired.tickets.values() if ticket.extent is not None]
        client.publish(tickets, [crcs_of(ticket.spec) for ticket in tickets])
        leases.append(acquired.lease_id)
    return leases


def store_all(client: LocalStoreClient, paths: Sequence[Chain]) -> None:
    for lease_id in fill(client, paths):
        client.release(lease_id)


def crcs_of(spec: SegmentSpec) -> tuple[int, ...]:
    return segment_crcs(spec, memoryview(bytes(spec.layout.nbytes)))
