"""Giving segments to the nodes that own them now, beside serving and at a bounded rate.

When the membership changes, one of those that owned a segment before sends it to whoever owns it
since: the first of them that is still there. What nobody owned before (the rest of an earlier life
of this node's disk) its finder sends. Once all nodes have done that the directory says so, by a
membership without a `before`; only then a node lets go of what is not its own.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from actors.guests import Guests
from actors.peers import Peers
from kvstore.errors import KVStoreError
from kvstore.membership import Membership
from kvstore.store import KVStore
from kvstore.types import SegmentSpec

logger = logging.getLogger(__name__)

BATCH_BYTES = 8 * 2**20
_CALL_TIMEOUT_S = 10.0
_ATTEMPTS = 3


class Mover:
    """One thread; a newer membership replaces the work on an older one."""

    def __init__(
        self, node_id: str, store: KVStore, guests: Guests, peers: Peers, bytes_per_s: float
    ) -> None:
        self._node_id, self._store, self._guests = node_id, store, guests
        self._peers, self._bytes_per_s = peers, bytes_per_s
        self._changed = threading.Condition()
        self._next: Membership | None = None
        self._closed = False
        self.done_epoch = 0
        """Up to this epoch nothing is left to do."""
        self.moved_bytes = 0
        self.moved_segments = 0
        self._thread = threading.Thread(target=self._run, name="store-mover", daemon=True)
        self._thread.start()

    def follow(self, membership: Membership) -> None:
        with self._changed:
            self._next = membership
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None or self._closed)
                membership, self._next = self._next, None
            if self._closed or membership is None:
                return
            try:
                if self._obey(membership):
                    self.done_epoch = membership.epoch
            except KVStoreError as error:  # closing
                logger.info("moving ends: %s", error)

    def _obey(self, membership: Membership) -> bool:
        """Whether it was done, and not overtaken."""
        specs = self._store.holdings()
        owners = membership.all_owners([spec.key.placement for spec in specs])
        foreign = [s for s, own in zip(specs, owners, strict=True) if self._node_id not in own]
        if membership.before or foreign:
            for node, batch in self._batches(membership, specs, owners):
                if self._next is not None or self._closed:
                    return False
                self._send(node, batch)
        if not membership.before and foreign:
            self._store.let_go([spec.key for spec in foreign])
        return True

    def _batches(
        self,
        membership: Membership,
        specs: Sequence[SegmentSpec],
        owners: Sequence[tuple[str, ...]],
    ) -> Iterator[tuple[str, list[SegmentSpec]]]:
        """What goes where; what is in memory first."""
        formerly = membership.earlier.all_owners([spec.key.placement for spec in specs])
        waiting = defaultdict[str, list[SegmentSpec]](list)
        for spec, now, before in zip(specs, owners, formerly, strict=True):
            for node in self._receivers(now, before, membership.node_ids):
                waiting[node].append(spec)
                if sum(s.layout.nbytes for s in waiting[node]) >= BATCH_BYTES:
                    yield node, waiting.pop(node)
        yield from waiting.items()

    def _receivers(
        self, now: tuple[str, ...], before: tuple[str, ...], present: frozenset[str]
    ) -> list[str]:
        """Whom this node sends a segment to."""
        senders = [node for node in before if node in present]
        if senders and senders[0] != self._node_id and self._node_id in before:
            return []
        had = before if self._node_id in before else ()
        return [node for node in now if node not in had and node != self._node_id]

    def _send(self, node: str, specs: Sequence[SegmentSpec]) -> None:
        """What the other has not got; it may have no room, which is no reason to try again."""
        for _ in range(_ATTEMPTS):
            keys = [spec.key for spec in specs]
            calls = self._peers.start({node: (keys,)}, "locate")
            there = self._peers.gather(calls, _CALL_TIMEOUT_S).get(node)
            if there is not None:
                break
            time.sleep(1.0)  # it is starting, or gone: then the membership will say so
        else:
            return
        acquired, parcels = self._guests.parcels([s for s in specs if s.key not in there])
        try:
            started, nbytes = time.monotonic(), sum(p.data.nbytes for p in parcels)
            calls = self._peers.start({node: (None, parcels)}, "deliver")
            self.moved_segments += self._peers.gather(calls, _CALL_TIMEOUT_S).get(node, 0)
            self.moved_bytes += nbytes
        finally:
            self._guests.release(acquired)
        pause = nbytes / self._bytes_per_s - (time.monotonic() - started)
        time.sleep(max(0.0, pause))
