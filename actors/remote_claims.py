"""What a process has claimed on other nodes, by the lease of its own node under which it computes
it."""

import threading
from collections.abc import Collection, Mapping

from kvstore.types import LeaseId, SegmentKey

Claims = Mapping[SegmentKey, Mapping[str, LeaseId]]
"""By segment and node, the lease there."""


class RemoteClaims:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[LeaseId, Claims] = {}

    def put(self, lease_id: LeaseId, claims: Claims) -> None:
        with self._lock:
            self._claims[lease_id] = claims

    def move(self, old: LeaseId, new: LeaseId) -> None:
        with self._lock:
            self._claims[new] = self._claims.pop(old, {})

    def of(self, lease_id: LeaseId, key: SegmentKey) -> Mapping[str, LeaseId]:
        with self._lock:
            return self._claims.get(lease_id, {}).get(key, {})

    def take(self, lease_ids: Collection[LeaseId]) -> set[tuple[str, LeaseId]]:
        """Nodes, and the leases there that were for these."""
        with self._lock:
            held = [self._claims.pop(lease_id, {}) for lease_id in lease_ids]
        return {stay for claims in held for own in claims.values() for stay in own.items()}
