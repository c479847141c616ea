"""The device tier of a CPU: segments stay where they are, in the arena, and stay pinned.

A second copy in the same memory would serve nobody. What is kept is the store's lease on recently
used segments, one by one, so that a request whose segments are all kept asks the store nothing.
"""

import weakref
from pathlib import Path

from torch import Tensor

from actors.engine.config import DeviceTierConfig
from actors.engine.device.base import WHOLE_QUEUE, DeviceTier
from actors.engine.device.residents import Loan, Resident, Stored
from kvstore.arena import GRANULE, granules
from kvstore.client import StoreClient
from kvstore.locks import is_owned
from kvstore.supervised import SupervisedThread
from kvstore.types import Acquired, ArenaRef, LeaseId, SegmentKey, SegmentSpec

_LOOK_S = 0.25
"""How often an engine looks whether the owner of what it keeps still lives."""


class RetainedTier(DeviceTier):
    """Bound: the smaller of `bytes` and `arena_share` of the arena, so that the store can evict
    the rest, whatever engines keep. Holds nothing of an arena whose owner is gone, also when no
    request comes: its memory would be held beside the next one's.

    A passage that another process removes stays pinned here, out of sight, until it is evicted:
    nobody can ask for it but with its own tokens, and then it is right.
    """

    def __init__(self, config: DeviceTierConfig) -> None:
        super().__init__(config)
        self._arena: ArenaRef | None = None
        self._pinned_bytes = 0
        self._is_crowded = False  # since the last request began
        self._watch: SupervisedThread | None = None

    @property
    def capacity_bytes(self) -> int:
        if self._arena is None:
            return self._config.bytes
        return min(self._config.bytes, int(self._config.arena_share * self._arena.nbytes))

    @property
    def used_bytes(self) -> int:
        return self._pinned_bytes

    def unchanged(self, client: StoreClient, loan: Loan) -> bool:
        residents = loan.residents.values()
        reused = [r for r in residents if not client.unchanged(r.acquired, [r.extent])]
        with self._lock:
            self._doom(reused)
        return not reused

    def shed(self) -> None:
        with self._lock:
            self._doom(list(self._residents.values()))
            self._is_crowded = True

    def _has_room(self, nbytes: int) -> bool:
        return not self._is_crowded and self.used_bytes + nbytes <= self.capacity_bytes

    def _victims(self, nbytes: int) -> list[SegmentKey]:
        missing = nbytes - (self.capacity_bytes - self.used_bytes)
        return self._shelf.victims(missing, self._window.next_use(WHOLE_QUEUE))

    def _nbytes(self, spec: SegmentSpec) -> int:
        return granules(spec.layout.nbytes) * GRANULE

    def _load(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> Tensor | None:
        if self._watch is None:
            self._watch = _watch(self, client)
        self._pinned_bytes += self._nbytes(spec)
        return stored.kv

    def _free(self, resident: Resident) -> None:
        self._pinned_bytes -= resident.nbytes
        self._unsettled.add(resident.acquired.lease_id)

    def _kept_under(self, lease_id: LeaseId) -> list[SegmentKey]:
        residents = self._residents.items()
        return [key for key, resident in residents if resident.acquired.lease_id == lease_id]

    def _meet(self, acquired: Acquired | None) -> None:
        self._is_crowded = self._is_crowded and acquired is not None
        arena = acquired.arena if acquired else self._arena
        if arena != self._arena or (arena and not is_owned(Path(arena.path))):
            self._doom(list(self._residents.values()))
        self._arena = arena

    def let_go_of_lost(self, client: StoreClient) -> None:
        """Unpins all of an arena whose owner is gone, but what a request reads."""
        arena = self._arena
        if arena is None or not self._residents or is_owned(Path(arena.path)):
            return
        with self._lock:
            if self._arena == arena:
                self._doom(list(self._residents.values()))
        self.settle(client, None)


def _watch(tier: RetainedTier, client: StoreClient) -> SupervisedThread:
    """A thread that ends with the tier."""
    watched = weakref.ref(tier)

    def look() -> bool:
        if (kept := watched()) is None:
            return False
        kept.let_go_of_lost(client)
        return True

    return SupervisedThread("device-tier-watch", look, _LOOK_S)
