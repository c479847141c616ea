"""The arenas that a client has mapped, and for how long.

A map keeps its arena's memory from a store that starts again. So an arena is unmapped when no lease
from it is open and either another incarnation has answered or its owner is gone; for the latter a
thread looks, since an idle client makes no call.
"""

import threading
from collections import Counter
from collections.abc import Iterable

from kvstore.arena import ArenaMap
from kvstore.arguments import refused
from kvstore.errors import StoreUnavailableError
from kvstore.supervised import SupervisedThread
from kvstore.types import Acquired, LeaseId

LOOK_S = 0.25
"""How often it is looked whether the owner of an arena lives."""


class ArenaMaps:
    """Thread-safe. Views that are out keep the memory that they need."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._maps: dict[str, ArenaMap] = {}
        self._current = ""  # incarnation of the latest answer
        self._leases: dict[LeaseId, str] = {}  # open ones, and the incarnation of each
        self._orphaned: set[str] = set()  # mapped incarnations whose owner is gone
        self._watch: SupervisedThread | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def add(self, acquired: Acquired) -> None:
        """Map the arena of an answer while its lease is open. Raises StoreUnavailableError when it
        is gone, or this was closed."""
        incarnation = acquired.arena.incarnation
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("the store's client is closed")
            if incarnation not in self._maps:
                self._maps[incarnation] = ArenaMap(acquired.arena)
            if self._watch is None:
                self._watch = SupervisedThread("store-owner-watch", self._look, LOOK_S)
            self._current = incarnation
            self._leases[acquired.lease_id] = incarnation
            self._drop_unused()

    def end(self, lease_ids: Iterable[LeaseId]) -> None:
        """These leases end."""
        with self._lock:
            for lease_id in lease_ids:
                self._leases.pop(lease_id, None)
            self._drop_unused()

    def of(self, acquired: Acquired) -> ArenaMap:
        """Raises StoreUnavailableError when the arena is mapped no more."""
        if type(acquired) is not Acquired:
            raise refused("acquired", acquired, "an answer of acquire")
        with self._lock:
            found = self._maps.get(acquired.arena.incarnation)
        if found is None:
            raise StoreUnavailableError(
                f"lease {acquired.lease_id} was released, and its arena is gone"
            )
        return found

    def close(self) -> bool:
        """End all leases; whether that was news."""
        with self._lock:
            was_open, self._closed = not self._closed, True
            self._maps.clear()
            self._leases.clear()
        if self._watch is not None:
            self._watch.stop()
        return was_open

    def _look(self) -> bool:
        """One step of the watch: which owners are gone. They do not come back."""
        with self._lock:
            maps = dict(self._maps)
        gone = {incarnation for incarnation, arena in maps.items() if not arena.is_owned()}
        del maps
        with self._lock:
            self._orphaned |= gone & self._maps.keys()
            self._drop_unused()
        return True

    def _drop_unused(self) -> None:
        used = Counter(self._leases.values())
        for incarnation in [i for i in self._maps if not used[i]]:
            if incarnation != self._current or incarnation in self._orphaned:
                del self._maps[incarnation]
                self._orphaned.discard(incarnation)
