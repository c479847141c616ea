"""What this node computed for others goes to them beside the requests, in order, from a bounded
queue.

Until it is sent it stays pinned under the lease it was computed under, whoever trims or releases
that lease meanwhile: the store is told what remains of the lease when the last of it has gone.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from actors.parcels import Parcel
from actors.peers import PAUSE_S, Peers
from kvstore.errors import KVStoreError
from kvstore.supervised import Supervisor
from kvstore.types import Acquired, Extent, LeaseId, Lineage, SegmentKey, SegmentSpec, Ticket

logger = logging.getLogger(__name__)

_SEND_S = 10.0
_MAX_TRIES = 5
"""Of a delivery to a node that does not answer, which is left alone for a while between two."""
_MAX_LEAVING = 4_096
"""Leases of others that wait to be ended; further ones are ended at once."""
_LOG_EVERY_S = 60.0


class Local(Protocol):
    """The store of this node, as far as deliveries use it."""

    def view(self, acquired: Acquired, extent: Extent) -> memoryview: ...

    def lineages(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, Lineage]: ...

    def checksums(self, keys: Collection[SegmentKey]) -> dict[SegmentKey, tuple[int, ...]]: ...

    def trim(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]], used: Sequence[SegmentKey] = ()
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class _Delivery:
    acquired: Acquired
    spec: SegmentSpec
    extent: Extent
    to: Mapping[str, LeaseId | None]
    """By node, the lease under which it was claimed there."""
    tries: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class _Leaving:
    node: str
    lease_id: LeaseId
    not_before: float = 0.0


class Deliveries:
    """Thread-safe. A full queue drops what is new, which is counted: its owner will compute it when
    it is asked for."""

    def __init__(self, local: Local, peers: Peers, max_waiting: int, threads: Supervisor) -> None:
        self._local, self._peers = local, peers
        self._max_waiting = max_waiting
        self._queue: deque[_Delivery | _Leaving] = deque()
        self._changed = threading.Condition()
        self._in_hand: _Delivery | _Leaving | None = None
        self._busy = False
        self._kept: dict[LeaseId, frozenset[SegmentKey]] = {}
        """What is to stay pinned once all has been sent from under a lease."""
        self._closed = False
        self.num_lost = 0
        """Segments that their owners did not get."""
        self._log_at = 0.0
        self._thread = threads.start("store-deliveries", self._step)

    def put(self, acquired: Acquired, ticket: Ticket, to: Mapping[str, LeaseId | None]) -> None:
        """A ticket that was committed, while its lease pins it."""
        if ticket.extent is None:
            return
        with self._changed:
            waiting = sum(isinstance(item, _Delivery) for item in self._queue)
            if not self._closed and waiting < self._max_waiting:
                self._queue.append(_Delivery(acquired, ticket.spec, ticket.extent, to))
                self._changed.notify_all()
                return
        self._lose(1)

    def protect(
        self, kept: Mapping[LeaseId, Collection[SegmentKey]]
    ) -> dict[LeaseId, Collection[SegmentKey]]:
        """The same, with what has not been sent yet: trim to that, the rest follows by itself."""
        with self._changed:
            return {lease_id: self._protected(lease_id, keys) for lease_id, keys in kept.items()}

    def leave(self, node: str, lease_id: LeaseId) -> None:
        """Another node's lease, once what was put before has arrived."""
        with self._changed:
            if not self._closed and len(self._queue) < _MAX_LEAVING:
                self._queue.append(_Leaving(node, lease_id))
                self._changed.notify_all()
                return
        self._peers.call(node, "leave", lease_id)

    def flush(self, timeout_s: float) -> bool:
        """Whether all of it was delivered, or given up, in time."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, timeout_s)

    def close(self, timeout_s: float) -> None:
        self.flush(timeout_s)
        with self._changed:
            self._closed = True
            left = sum(isinstance(item, _Delivery) for item in self._queue)
            self._queue.clear()
            self._changed.notify_all()
        if left:
            self._lose(left)
        self._thread.stop()
        self._thread.join(timeout_s)

    def _step(self) -> bool:
        """One item."""
        item = self._take()
        if item is None:
            return not self._closed
        again = None
        try:
            if isinstance(item, _Leaving):
                self._peers.call(item.node, "leave", item.lease_id)
            else:
                again = self._deliver(item)
        finally:
            self._put_down(item, again)
        return True

    def _take(self) -> _Delivery | _Leaving | None:
        """The first item whose time has come; None: none has, look again."""
        with self._changed:
            now = time.monotonic()
            for i, item in enumerate(self._queue):
                if item.not_before <= now:
                    del self._queue[i]
                    self._in_hand, self._busy = item, True
                    return item
            next_at = min((item.not_before for item in self._queue), default=None)
            if not self._closed:
                self._changed.wait(None if next_at is None else next_at - now)
            return None

    def _put_down(self, item: _Delivery | _Leaving, again: _Delivery | None) -> None:
        with self._changed:
            self._in_hand = None
            if again is not None and not self._closed:
                self._queue.append(again)
            kept = self._settled(item)
        try:
            if kept is not None and isinstance(item, _Delivery):
                with suppress(KVStoreError):  # the shard was lost, and with it what it had
                    self._local.trim({item.acquired.lease_id: kept})
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _settled(self, item: _Delivery | _Leaving) -> frozenset[SegmentKey] | None:
        """What is to stay of the item's lease now that all has been sent from under it."""
        if isinstance(item, _Leaving) or self._unsent(item.acquired.lease_id):
            return None
        return self._kept.pop(item.acquired.lease_id, None)

    def _protected(self, lease_id: LeaseId, keys: Collection[SegmentKey]) -> set[SegmentKey]:
        unsent, kept = self._unsent(lease_id), frozenset(keys)
        self._kept.pop(lease_id, None)
        if unsent - kept:
            self._kept[lease_id] = kept
        return unsent | kept

    def _unsent(self, lease_id: LeaseId) -> set[SegmentKey]:
        items = [*self._queue, self._in_hand]
        deliveries = (item for item in items if isinstance(item, _Delivery))
        return {d.spec.key for d in deliveries if d.acquired.lease_id == lease_id}

    def _is_idle(self) -> bool:
        return not self._queue and not self._busy

    def _deliver(self, item: _Delivery) -> _Delivery | None:
        """What is left to be tried again. What has gone from here meanwhile is not delivered; who
        gets it verifies it."""
        try:
            missed = self._send(item)
        except KVStoreError:  # the shard was lost, and with it what it had
            missed = set(item.to)
        if not missed:
            return None
        if item.tries + 1 >= _MAX_TRIES:
            self._lose(1)
            return None
        to = {node: lease_id for node, lease_id in item.to.items() if node in missed}
        not_before = time.monotonic() + PAUSE_S
        return replace(item, to=to, tries=item.tries + 1, not_before=not_before)

    def _send(self, item: _Delivery) -> set[str]:
        """The nodes that did not answer."""
        key = item.spec.key
        lineage = self._local.lineages([key]).get(key)
        crcs = self._local.checksums([key]).get(key)
        if crcs is None or lineage is None:
            return set()
        view = self._local.view(item.acquired, item.extent)
        parcel = Parcel(item.spec, crcs, np.frombuffer(view, np.uint8), lineage)
        arguments = {node: (lease_id, [parcel]) for node, lease_id in item.to.items()}
        answered = self._peers.gather(self._peers.start(arguments, "deliver"), _SEND_S)
        return item.to.keys() - answered.keys()

    def _lose(self, number: int) -> None:
        with self._changed:
            self.num_lost += number
            now = time.monotonic()
            if now < self._log_at:
                return
            self._log_at = now + _LOG_EVERY_S
        logger.warning("%d segments did not get to their owners so far", self.num_lost)
