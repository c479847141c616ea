"""The link between a device and its host, slowed down to a declared rate."""

import math
import threading
import time
from collections.abc import Collection, Sequence

from torch import Tensor

from actors.engine.config import DeviceTierConfig
from actors.engine.device import DevicePool, Stored
from actors.engine.device.pooled import PoolTier
from kvstore.client import StoreClient
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Extent, SegmentSpec, Ticket


class Link:
    """One transfer after the other."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, nbytes: int) -> None:
        """Returns when so many bytes would have arrived."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + nbytes / self._bytes_per_s
            free_at = self._free_at
        time.sleep(max(0.0, free_at - time.monotonic()))


class LinkedTier(PoolTier):
    """A GPU's tier in a CPU's memory: what it copies from the host crosses the link."""

    def __init__(self, pool: DevicePool, config: DeviceTierConfig, down: Link) -> None:
        super().__init__(pool, config)
        self._down = down

    def _load(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> Tensor | None:
        if stored.on_device is None:
            self._down.carry(spec.layout.nbytes)
        return super()._load(client, acquired, stored, spec)


class LinkedClient(LocalStoreClient):
    """What was computed crosses the link to the host, and what a request brings to the device
    itself, layer by layer, the other way."""

    def __init__(self, store: KVStore, dram_dir: str, up: Link, down: Link) -> None:
        super().__init__(store, dram_dir)
        self._up, self._down = up, down

    def commit(self, acquired: Acquired, tickets: Sequence[Ticket]) -> None:
        self._up.carry(sum(ticket.spec.layout.nbytes for ticket in tickets))
        super().commit(acquired, tickets)

    def await_layer(
        self,
        acquired: Acquired,
        extents: Collection[Extent],
        layer: int,
        deadline_s: float,
        stall_s: float = math.inf,
    ) -> bool:
        if not super().await_layer(acquired, extents, layer, deadline_s, stall_s):
            return False
        layouts = [h.spec.layout for h in acquired.hits.values() if h.extent in extents]
        self._down.carry(sum(one.layer_nbytes for one in layouts if layer < one.num_layers))
        return True
