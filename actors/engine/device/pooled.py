"""The device tier of a GPU: copies in a pool that the engine allocates at its start."""

from torch import Tensor

from actors.engine.config import DeviceTierConfig
from actors.engine.device.base import WHOLE_QUEUE, DeviceTier
from actors.engine.device.pool import DevicePool
from actors.engine.device.residents import Loan, Resident, Stored
from kvstore.arena import granules
from kvstore.client import StoreClient
from kvstore.eviction import Eviction
from kvstore.shares import Shares
from kvstore.types import Acquired, LeaseId, SegmentKey, SegmentSpec


class PoolTier(DeviceTier):
    """Holds no pin beyond a request, and outlives restarts of the store: the bytes are its own."""

    copies = True

    def __init__(self, pool: DevicePool, config: DeviceTierConfig) -> None:
        super().__init__(config)
        self._pool = pool
        nobody = Shares(
            0.0, lambda: pool.capacity_bytes
        )  # what is in a pool is counted to no tenant
        self._eviction = Eviction(pool.occupants, self._shelf, nobody, self._window, WHOLE_QUEUE)

    @property
    def capacity_bytes(self) -> int:
        return self._pool.capacity_bytes

    @property
    def used_bytes(self) -> int:
        return self._pool.used_bytes

    def unchanged(self, client: StoreClient, loan: Loan) -> bool:
        """Copies cannot change; what they were copied from was looked at after the copy."""
        return True

    def shed(self) -> None:
        """Nothing here is of the arena."""

    def check(self) -> list[str]:
        return super().check() + self._pool.check()

    def _has_room(self, nbytes: int) -> bool:
        return self._pool.can_reserve(nbytes)

    def _victims(self, nbytes: int) -> list[SegmentKey]:
        return self._eviction.victims(granules(nbytes), b"")

    def _nbytes(self, spec: SegmentSpec) -> int:
        return self._pool.nbytes_of(spec)

    def _load(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> Tensor | None:
        if stored.on_device is not None:
            return self._pool.fill(spec, stored.on_device)
        kv = self._pool.fill(spec, stored.kv)
        if client.unchanged(acquired, [stored.extent]):
            return kv
        self._pool.remove(spec.key)
        return None

    def _free(self, resident: Resident) -> None:
        self._pool.remove(resident.spec.key)

    def _kept_under(self, lease_id: LeaseId) -> list[SegmentKey]:
        return []

    def _meet(self, acquired: Acquired | None) -> None:
        """Which arena a copy came from does not matter."""
