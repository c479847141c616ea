"""The device tier of a CPU: segments stay where they are, in the arena, and stay pinned.

A second copy in the same memory would serve nobody. What is kept is the store's lease on recently
used segments, one by one, so that a request whose segments are all kept asks the store nothing.
"""

from pathlib import Path

from torch import Tensor

from actors.engine.config import DeviceTierConfig
from actors.engine.device.base import DeviceTier
from actors.engine.device.residents import Loan, Resident, Stored
from kvstore.arena import GRANULE, granules
from kvstore.client import StoreClient
from kvstore.types import Acquired, ArenaRef, LeaseId, SegmentKey, SegmentSpec


class RetainedTier(DeviceTier):
    """Bound: the smaller of `bytes` and `arena_share` of the arena, so that the store can evict
    the rest, whatever engines keep. Holds nothing of an arena whose file is gone: its memory would
    be held beside the next one's.

    A passage that another process removes stays pinned here, out of sight, until it is evicted:
    nobody can ask for it but with its own tokens, and then it is right.
    """

    def __init__(self, config: DeviceTierConfig) -> None:
        super().__init__(config)
        self._arena: ArenaRef | None = None
        self._pinned_bytes = 0
        self._is_crowded = False  # since the last request began

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

    def _nbytes(self, spec: SegmentSpec) -> int:
        return granules(spec.layout.nbytes) * GRANULE

    def _load(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> Tensor | None:
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
        if arena != self._arena or (arena and not Path(arena.path).exists()):
            self._doom(list(self._residents.values()))
        self._arena = arena
