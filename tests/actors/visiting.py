"""A store with its shard's side of guests, and parcels for it, some of which take their time."""

import threading
from pathlib import Path as FilePath

import numpy as np

from actors.guests import Guests
from actors.parcels import Parcel
from actors.stays import Guest
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import HolderId, SegmentSpec
from tests.kvstore.segments import assert_balanced, crcs_of, payload, small_config

_PATIENCE_S = 60.0


class Node:
    def __init__(self, folder: FilePath, lease_s: float = 60.0, **settings: float | str) -> None:
        folder.mkdir()
        config = small_config(folder, ticket_ttl_s=lease_s, **settings)
        self.store = KVStore(config, "node")
        self.guests = Guests(self.store, config)
        self.client = LocalStoreClient(self.store, config.dram_dir)

    def close(self) -> None:
        assert_balanced(self.store)
        self.client.close()
        self.guests.close(10.0)
        self.store.close()


class Gate:
    """Holds a copy up half way, until the test opens it."""

    def __init__(self) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._opened.wait(_PATIENCE_S)

    def await_copy(self) -> None:
        assert self.reached.wait(_PATIENCE_S)

    def open(self) -> None:
        self._opened.set()


class GatedParcel(Parcel):
    """Copied in two halves, with a gate between them."""

    gate: Gate

    def copy_into(self, extent: memoryview) -> None:
        target, half = np.frombuffer(extent, np.uint8), self.data.nbytes // 2
        np.copyto(target[:half], self.data[:half])
        self.gate.pass_through()
        np.copyto(target[half:], self.data[half:])


def somebody(node: str = "other") -> Guest:
    return Guest(node, HolderId("0" * 16))


def parcel(spec: SegmentSpec, data: bytes | None = None) -> Parcel:
    return Parcel(spec, crcs_of(spec), np.frombuffer(data or payload(spec), np.uint8))


def gated(spec: SegmentSpec, gate: Gate) -> Parcel:
    class Held(GatedParcel):
        pass

    Held.gate = gate
    return Held(spec, crcs_of(spec), np.frombuffer(payload(spec), np.uint8))
