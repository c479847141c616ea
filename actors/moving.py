"""Giving segments to the nodes that own them now, beside serving and at a bounded rate.

When the membership changes, one of those that owned a segment before sends it to whoever owns it
since: the first of them that is still there. What nobody owned before (the rest of an earlier life
of this node's disk) its finder sends. A node is done when the receivers have confirmed all of it;
what they have not is tried again. Once all nodes are done the directory says so, by a membership
without a `before`; only then a node lets go of what is not its own, and only of what its owners
have confirmed.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from actors.guests import Guests, TakenOver
from actors.handover import Batch, Handover
from actors.peers import Peers
from kvstore.errors import KVStoreError
from kvstore.membership import Membership
from kvstore.store import KVStore
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

BATCH_BYTES = 8 * 2**20
_BATCH_SEGMENTS = 32
"""So many find room in the queue in which the receiver's disk writes them."""
_CALL_TIMEOUT_S = 20.0
_FIRST_RETRY_S, _MAX_RETRY_S = 1.0, 30.0
"""The pause before what was not confirmed is tried again, doubled each time."""


class Mover:
    """One thread; a newer membership replaces the work on an older one, at the next batch."""

    def __init__(
        self, node_id: str, store: KVStore, guests: Guests, peers: Peers, bytes_per_s: float
    ) -> None:
        self._node_id, self._store, self._guests = node_id, store, guests
        self._peers, self._bytes_per_s = peers, bytes_per_s
        self._changed = threading.Condition()
        self._next: Membership | None = None
        self._closed = False
        self._membership: Membership | None = None
        """Not done with yet."""
        self._handover: Handover | None = None
        self._pause_s: float | None = None
        self._retry_s = _FIRST_RETRY_S
        self.done_epoch = 0
        """Up to this epoch nothing is left to do."""
        self.moved_bytes = 0
        self.moved_segments = 0
        self.waiting: Mapping[str, int] = {}
        """Segments that are not confirmed, by the name of the node that is to keep them."""
        self.num_unplaced = 0
        self._thread = store.threads.start("store-mover", self._step)

    def follow(self, membership: Membership) -> None:
        with self._changed:
            self._next = membership
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        self._thread.stop()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _step(self) -> bool:
        with self._changed:
            self._changed.wait_for(self._is_interrupted, self._pause_s)
            if self._closed:
                return False
            newer, self._next = self._next, None
        if newer is not None:
            self._membership, self._handover = newer, None
            self._retry_s = _FIRST_RETRY_S
        if self._membership is not None:
            self._advance(self._membership)
        return True

    def _is_interrupted(self) -> bool:
        return self._next is not None or self._closed

    def _advance(self, membership: Membership) -> None:
        """One try. Whatever happens in it, another one follows until all is confirmed."""
        self._pause_s = self._retry_s
        self._retry_s = min(2 * self._retry_s, _MAX_RETRY_S)
        try:
            if self._handover is None:
                self._handover = Handover(self._node_id, membership, self._store.holdings())
            self._try(self._handover)
        except KVStoreError as error:  # closing
            logger.info("moving pauses: %s", error)

    def _try(self, handover: Handover) -> None:
        silent = set[str]()
        for batch in handover.batches(BATCH_BYTES, _BATCH_SEGMENTS):
            self._show(handover)
            if self._is_interrupted():
                return
            if batch.node_id not in silent and not self._give(handover, batch):
                silent.add(batch.node_id)
        if confirmed := handover.take_confirmed():
            self._store.let_go(confirmed)
        self._show(handover)
        if handover.done:
            self._end(handover)

    def _show(self, handover: Handover) -> None:
        self.waiting, self.num_unplaced = handover.num_waiting(), handover.num_unplaced

    def _end(self, handover: Handover) -> None:
        if handover.num_unplaced:
            logger.warning(
                "%d segments stay here: the nodes that own them did not take them",
                handover.num_unplaced,
            )
        self.done_epoch = handover.membership.epoch
        self._membership = self._handover = self._pause_s = None

    def _give(self, handover: Handover, batch: Batch) -> bool:
        """Whether the node answered."""
        there = self._ask(batch.node_id, "kept", [spec.key for spec in batch.specs])
        if there is None:
            return False
        handover.confirm(batch.node_id, there)
        rest = [spec for spec in batch.specs if spec.key not in there]
        return not rest or self._send(handover, Batch(batch.node_id, rest))

    def _send(self, handover: Handover, batch: Batch) -> bool:
        started = time.monotonic()
        acquired, parcels = self._guests.parcels(batch.specs)
        try:
            taken: TakenOver | None = self._ask(batch.node_id, "take_over", parcels)
        finally:
            self._guests.release(acquired)
        sent = {parcel.spec.key for parcel in parcels}
        handover.confirm(batch.node_id, self._gone([s for s in batch.specs if s.key not in sent]))
        if taken is not None:
            handover.confirm(batch.node_id, taken.kept)
            handover.refuse(batch.node_id, taken.refused)
            self.moved_segments += len(taken.kept)
        nbytes = sum(parcel.data.nbytes for parcel in parcels)
        self.moved_bytes += nbytes
        with self._changed:
            pause_s = nbytes / self._bytes_per_s - (time.monotonic() - started)
            self._changed.wait_for(self._is_interrupted, max(0.0, pause_s))
        return taken is not None

    def _gone(self, specs: Sequence[SegmentSpec]) -> set[SegmentKey]:
        """What this node has not got any more, to give it to anybody."""
        keys = {spec.key for spec in specs}
        return keys - self._store.locate(keys).keys()

    def _ask(self, node_id: str, method: str, argument: Any) -> Any:
        """None when the node did not answer: it is starting, or gone, and then the membership will
        say so."""
        calls = self._peers.start({node_id: (argument,)}, method)
        return self._peers.gather(calls, _CALL_TIMEOUT_S).get(node_id)
