"""What this node computed for others goes to them beside the requests, in order, from a bounded
queue."""

import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from actors.parcels import Parcel
from actors.peers import Peers
from actors.store_client import RayStoreClient
from kvstore.errors import KVStoreError
from kvstore.supervised import Supervisor
from kvstore.types import Acquired, Extent, LeaseId, SegmentKey, SegmentSpec, Ticket

_SEND_S = 10.0


@dataclass(frozen=True, slots=True)
class _Delivery:
    acquired: Acquired
    spec: SegmentSpec
    extent: Extent
    to: Mapping[str, LeaseId | None]
    """By node, the lease under which it was claimed there."""


@dataclass(frozen=True, slots=True)
class _Leaving:
    node: str
    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class _Release:
    lease_id: LeaseId


class Deliveries:
    """A full queue drops what is new: its owner will compute it when it is asked for."""

    def __init__(
        self, local: RayStoreClient, peers: Peers, max_waiting: int, threads: Supervisor
    ) -> None:
        self._local, self._peers = local, peers
        self._max_waiting = max_waiting
        self._queue: deque[_Delivery | _Leaving | _Release] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        self._thread = threads.start("store-deliveries", self._step)

    def put(self, acquired: Acquired, ticket: Ticket, to: Mapping[str, LeaseId | None]) -> None:
        """A ticket that was committed, while its lease pins it."""
        with self._changed:
            waiting = sum(isinstance(item, _Delivery) for item in self._queue)
            if ticket.extent is None or waiting >= self._max_waiting:
                return
            self._queue.append(_Delivery(acquired, ticket.spec, ticket.extent, to))
            self._changed.notify_all()

    def unsent(self, lease_id: LeaseId) -> set[SegmentKey]:
        """What waits to be sent from under this lease."""
        with self._changed:
            waiting = [item for item in self._queue if isinstance(item, _Delivery)]
        return {item.spec.key for item in waiting if item.acquired.lease_id == lease_id}

    def leave(self, node: str, lease_id: LeaseId) -> None:
        """Another node's lease, once what was put before has arrived."""
        self._then(_Leaving(node, lease_id))

    def release(self, lease_id: LeaseId) -> None:
        """This node's lease, once what was put before has gone."""
        self._then(_Release(lease_id))

    def _then(self, item: _Leaving | _Release) -> None:
        with self._changed:
            self._queue.append(item)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Whether all of it was delivered, or given up, in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout_s)

    def close(self, timeout_s: float) -> None:
        self.flush(timeout_s)
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _step(self) -> bool:
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return False
            item, self._busy = self._queue.popleft(), True
        with suppress(KVStoreError):  # the shard was lost, and with it what it had
            if isinstance(item, _Leaving):
                self._peers.call(item.node, "leave", item.lease_id)
            elif isinstance(item, _Release):
                self._local.release(item.lease_id)
            else:
                self._send(item)
        return True

    def _send(self, item: _Delivery) -> None:
        """What has gone from here meanwhile is not delivered; who gets it verifies it."""
        crcs = self._local.checksums([item.spec.key]).get(item.spec.key)
        if crcs is None:
            return
        view = self._local.view(item.acquired, item.extent)
        parcel = Parcel(item.spec, crcs, np.frombuffer(view, np.uint8))
        arguments = {node: (lease_id, [parcel]) for node, lease_id in item.to.items()}
        self._peers.gather(self._peers.start(arguments, "deliver"), _SEND_S)
