"""Small segments and chains for tests: real keys, bytes that depend on the key."""

from collections.abc import Sequence
from pathlib import Path as FilePath

import crc32c
import numpy as np

from kvstore.checksum import layer_bytes, segment_crcs
from kvstore.client import StoreClient
from kvstore.codec import Header, encode_header
from kvstore.config import StoreConfig
from kvstore.keys import make_path, make_root
from kvstore.store import KVStore
from kvstore.tiers.files import Files
from kvstore.tiers.folder import Folder
from kvstore.tiers.slow import SlowTier
from kvstore.types import Acquired, Dtype, Hit, Layout, Path, SegmentKey, SegmentSpec, Ticket

ROOT = make_root(b"model", "tenant")
TRUNK = [7] * 8
"""Tokens of the piece that every chain begins with."""


def chain_of(
    *pieces: Sequence[int], dtype: Dtype = "float32", layers: int = 3, own_prefix: bool = False
) -> Path:
    """A path whose pieces are token lists; 128 bytes per token and layer in float32."""
    return make_path(ROOT, pieces, Layout(layers, 2, 0, 8, dtype), own_prefix)


def passage(number: int, num_tokens: int = 32) -> list[int]:
    """Tokens of a passage: 12 KiB in `chain_of`'s layout by default, three granules."""
    return [number] * num_tokens


def payload(spec: SegmentSpec) -> bytes:
    """The one right content of a segment."""
    seed = int.from_bytes(spec.key.digest[:8], "little")
    return np.random.default_rng(seed).bytes(spec.layout.nbytes)


def header_of_version(spec: SegmentSpec, version: int) -> bytes:
    """Sound, of another version of the format."""
    body = bytearray(encode_header(Header(spec, crcs_of(spec)))[:-4])
    body[8:12] = version.to_bytes(4, "little")
    return bytes(body) + crc32c.crc32c(bytes(body)).to_bytes(4, "little")


def crcs_of(spec: SegmentSpec) -> tuple[int, ...]:
    return segment_crcs(spec, memoryview(payload(spec)))


def small_config(folder: FilePath, **changes: float | str | tuple[str, ...]) -> StoreConfig:
    """One MiB of DRAM, four of SSD, below `folder`."""
    settings: dict[str, float | str | tuple[str, ...]] = {
        "dram_bytes": 2**20,
        "dram_dir": str(folder),
        "ssd_dir": str(folder / "ssd"),
        "ssd_bytes": 2**22,
        "ssd_free_share": 1.0,
        "reap_interval_s": 0.05,
    }
    return StoreConfig(**{**settings, **changes})  # type: ignore[arg-type]


def ssd_tier(folder: FilePath, max_bytes: int = 2**20, files: Files | None = None) -> SlowTier:
    """The SSD tier of a folder, recovered."""
    return recovered(SlowTier(Folder(folder, max_bytes // 16, files), max_bytes))


def recovered(tier: SlowTier) -> SlowTier:
    """With all that its medium has."""
    for stored in tier.recover():
        if not tier.adopt(stored, recovered=True):
            tier.discard(stored)
    return tier


def fill(client: StoreClient, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
    """Write the right content into the tickets' extents."""
    for ticket in tickets:
        if ticket.extent is not None:
            client.writable(acquired, ticket)[:] = payload(ticket.spec)


def compute(
    client: StoreClient, *paths: Path, deadline_s: float = 5.0, streamed: bool = False
) -> Acquired:
    """Acquire, compute and commit what is missing; the lease stays open."""
    acquired = client.acquire(paths, deadline_s, streamed)
    kept = [t for t in acquired.tickets.values() if t.extent is not None]
    fill(client, acquired, kept)
    client.commit(acquired, kept)
    return acquired


def store_path(client: StoreClient, *paths: Path) -> None:
    client.release(compute(client, *paths).lease_id)


def layer_of(client: StoreClient, acquired: Acquired, hit: Hit, layer: int) -> bytes:
    """What the arena has of it."""
    return bytes(layer_bytes(hit.spec, client.view(acquired, hit.extent), layer))


def right_layer(spec: SegmentSpec, layer: int) -> bytes:
    return bytes(layer_bytes(spec, memoryview(payload(spec)), layer))


def assert_right_bytes(client: StoreClient, acquired: Acquired) -> None:
    """Every hit holds its one right content, and still does after the look; of what is arriving
    every layer does from the time on that it is said to be there."""
    arriving = [hit for hit in acquired.hits.values() if hit.arriving]
    for layer in range(max((hit.spec.layout.num_layers for hit in arriving), default=0)):
        assert client.await_layer(acquired, [hit.extent for hit in arriving], layer, 30)
        for hit in arriving:
            assert layer_of(client, acquired, hit, layer) == right_layer(hit.spec, layer)
    for hit in acquired.hits.values():
        assert client.view(acquired, hit.extent) == payload(hit.spec), f"{hit.spec.key}"
    assert client.unchanged(acquired, [hit.extent for hit in acquired.hits.values()])


def assert_balanced(store: KVStore) -> None:
    report = store.check()
    assert report.ok, report.problems
    stats = store.stats()
    assert stats.dram.used_bytes <= stats.dram.capacity_bytes
    assert stats.ssd.used_bytes <= stats.ssd.capacity_bytes


def bytes_of(store: KVStore, acquired: Acquired, key: SegmentKey) -> memoryview:
    """A computed segment's bytes in the store's memory, to be spoilt."""
    extent = acquired.tickets[key].extent
    assert extent is not None
    return store._books.dram.view(extent)
