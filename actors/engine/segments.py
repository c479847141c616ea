"""Between an engine and the store: KV tensors of chains, from the store or computed once.

What the store has is read in place. What nobody has, this engine computes into the extent that the
store reserved, and commits. What another engine is computing is waited for, holding no claim, so
that two engines can never wait for each other (ALGORITHMS 2.4). A store that cannot be reached,
or has no room, costs time, never an answer. What the device tier kept of earlier requests comes
first: the store is asked only for paths that are not wholly there.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate

from torch import Tensor

from actors.engine.device import DeviceTier, Stored
from actors.engine.lease import Lease, as_tensor
from actors.engine.load_rates import LoadRates
from actors.errors import ExpiredError, UnavailableError
from kvstore.chains import MAX_SEGMENTS
from kvstore.client import StoreClient
from kvstore.errors import DeadlineError, KVStoreError
from kvstore.types import Acquired, Extent, Path, SegmentKey, SegmentSpec, TierName, TierStats

_STALL_S = 2.5
"""Longest wait while no layer of anything arrives: others wait for the compute slot meanwhile."""
_WAIT_SLICE_S = 5.0
"""A wait for another's computation is cut here: its holder may have died, or be slower than we."""


class Segments:
    """Lends the KV of paths. Without a client, or a store that answers, nothing is there."""

    def __init__(self, client: StoreClient | None, tier: DeviceTier) -> None:
        self._client, self._tier = client, tier
        self.rates = LoadRates()
        """What loads have reached here."""

    @property
    def on(self) -> bool:
        return self._client is not None

    def stats(self) -> TierStats:
        """Of the device tier."""
        return self._tier.stats()

    @contextmanager
    def lease(
        self,
        paths: Sequence[Path],
        deadline: float,
        streamed: bool = False,
        claim: bool = True,
        brought: bool = False,
    ) -> Iterator[Lease]:
        """Acquire once, or not at all; release at the end, whatever happens. `deadline` is a
        monotonic time. `streamed`: do not wait for slow tiers, but before each layer
        (`await_layer`). Without `claim` nothing of what is missing is ours to compute. `brought`:
        the caller copies hits to the device itself, and leaves them there in `lease.brought`."""
        if self._client is None:
            yield Lease(store="off")
            return
        left = remaining(deadline)
        loan = self._tier.lend(paths)
        kept = frozenset(loan.residents)
        lease = Lease(loan=loan, kept=kept, tensors=loan.tensors, deadline=deadline)
        try:
            lease.paths = [path for path in paths if any(s.key not in loan for s in path)]
            if lease.paths:
                self._acquire(self._client, lease, left, streamed, claim, brought)
            yield lease
            self._take_in_late(self._client, lease)
        finally:
            self._tier.give_back(loan)
            lease_id = lease.acquired.lease_id if lease.acquired else None
            self._tier.settle(self._client, lease_id)

    def _acquire(
        self,
        client: StoreClient,
        lease: Lease,
        deadline_s: float,
        streamed: bool = False,
        claim: bool = True,
        brought: bool = False,
    ) -> None:
        began = time.monotonic()
        try:
            acquired = lease.acquired = client.acquire(lease.paths, deadline_s, streamed, claim)
        except KVStoreError:
            lease.store = "unavailable"
            return
        lease.acquire_s = time.monotonic() - began
        lease.tickets = dict(acquired.tickets)
        lease.waiting = acquired.waiters
        if any(ticket.extent is None for ticket in acquired.tickets.values()):
            self._tier.shed()
        hits = lease.store_hits
        found = {h.spec.key: _stored(client, acquired, h.spec, h.extent) for h in hits}
        lease.tensors |= {key: stored.kv for key, stored in found.items()}
        lease.arriving = [hit for hit in hits if hit.arriving]
        brought = brought and self._tier.copies
        lease.late = hits if brought else lease.arriving
        whole = {h.spec.key: found[h.spec.key] for h in hits if not (brought or h.arriving)}
        self._tier.take_in(client, lease.loan, lease.paths, acquired, whole)
        lease.tensors |= lease.loan.tensors
        self._restore(lease)

    def _take_in_late(self, client: StoreClient, lease: Lease) -> None:
        """What was on its way, and the hits behind it, if all of it is there, and pinned, now."""
        acquired = lease.acquired
        if acquired is None or not lease.late:
            return
        whole = {
            h.spec.key: _stored(client, acquired, h.spec, h.extent, lease.brought.get(h.spec.key))
            for h in lease.store_hits
            if client.await_layer(acquired, [h.extent], h.spec.layout.num_layers, 0.0)
        }
        self._tier.take_in(client, lease.loan, lease.paths, acquired, whole)

    def _restore(self, lease: Lease) -> None:
        """What the store has lost and the device tier has not is copied out, not computed again."""
        restored = {}
        for key in lease.kept & lease.tickets.keys():
            kv = lease.tensors[key]
            extent = self.sink(lease, lease.tickets[key].spec)
            if extent is not None:
                restored[key] = extent.copy_(kv)
        self.publish(lease, restored)

    def hand_over(self, deadline: float) -> int:
        """Before this engine ends: what only its device tier has is given to the store, as far as
        there is room, and one `acquire` takes it. How many segments."""
        if self._client is None:
            return 0
        loan, chains = self._tier.lend_all()
        lease = Lease(
            loan=loan, kept=frozenset(loan.residents), tensors=loan.tensors, deadline=deadline
        )
        try:
            found = self.locate(lease.kept)
            missing = [path for path in chains if any(s.key not in found for s in path)]
            sizes = accumulate(map(len, missing))
            pairs = zip(missing, sizes, strict=True)
            lease.paths = [path for path, size in pairs if size <= MAX_SEGMENTS]
            if lease.paths:
                self._acquire(self._client, lease, remaining(deadline))
            claimed = lease.acquired.tickets.keys() if lease.acquired else frozenset()
            return len(lease.kept & claimed - lease.tickets.keys())
        finally:
            self._tier.give_back(loan)
            self._tier.settle(self._client, lease.acquired.lease_id if lease.acquired else None)

    def await_layer(self, lease: Lease, layer: int) -> bool:
        """Whether this layer of every hit of a streamed lease is in place, after a wait for what is
        still being read. False when one will not be in time, or at all: compute without the
        lease's tensors then."""
        if self._client is None or lease.acquired is None or not lease.late:
            return True
        left = max(0.0, lease.deadline - time.monotonic())
        extents = [hit.extent for hit in lease.late]
        return self._client.await_layer(lease.acquired, extents, layer, left, _STALL_S)

    def loaded(self, lease: Lease, keys: Collection[SegmentKey], copy_s: float) -> None:
        """These are where they are computed with, after a copy that took so long."""
        self.rates.learn(lease.nbytes(keys), lease.acquire_s + copy_s)

    def sink(self, lease: Lease, spec: SegmentSpec) -> Tensor | None:
        """Where to write a ticket's KV: the reserved extent, or None when there is no room."""
        ticket = lease.tickets.get(spec.key)
        if self._client is None or lease.acquired is None or ticket is None or not ticket.extent:
            return None
        return as_tensor(self._client.writable(lease.acquired, ticket), spec)

    def publish(self, lease: Lease, written: Mapping[SegmentKey, Tensor]) -> None:
        """Commit these tickets; `written` has the KV that was computed. A store that fails
        meanwhile is ignored, and what was computed from bytes that changed is not the segment."""
        client, acquired = self._client, lease.acquired
        tickets = [lease.tickets.pop(key) for key in written]
        if client is None or acquired is None or not tickets or not self.unchanged(lease):
            return
        try:
            client.commit(acquired, tickets)
        except KVStoreError:
            lease.store = "unavailable"
            return
        stored = {
            ticket.spec.key: _stored(client, acquired, ticket.spec, ticket.extent, kv)
            for ticket, kv in zip(tickets, written.values(), strict=True)
            if ticket.extent is not None
        }
        self._tier.take_in(client, lease.loan, lease.paths, acquired, stored)

    def await_others(self, keys: frozenset[SegmentKey], deadline: float) -> bool:
        """Whether the keys are settled; False when it took too long and we should compute."""
        if self._client is None:
            return True
        try:
            self._client.wait(keys, min(remaining(deadline), _WAIT_SLICE_S))
        except DeadlineError:
            return False
        except KVStoreError:
            return True
        return True

    def announce(self, request_id: str, paths: Sequence[Path], deadline_s: float) -> None:
        """A queued request will need these. A store that cannot be told does without."""
        if self._client is not None:
            self._tier.announce(request_id, paths, deadline_s)
            with suppress(KVStoreError):
                self._client.announce(request_id, paths, deadline_s)

    def retire(self, request_id: str) -> None:
        """It is served now, or has gone. Idempotent."""
        if self._client is not None:
            self._tier.retire(request_id)
            with suppress(KVStoreError):
                self._client.retire(request_id)

    def locate(self, keys: Collection[SegmentKey]) -> Mapping[SegmentKey, TierName]:
        """Where the store has each; nothing when it cannot be asked."""
        if self._client is None or not keys:
            return {}
        try:
            return self._client.locate(keys)
        except KVStoreError:
            return {}

    def unchanged(self, lease: Lease) -> bool:
        """Whether every byte that was read was still the segment's at the time of asking."""
        if self._client is None:
            return True
        kept = self._tier.unchanged(self._client, lease.loan)
        if lease.acquired is None:
            return kept
        extents = [hit.extent for hit in lease.store_hits]
        return self._client.unchanged(lease.acquired, extents) and kept

    def forget(self, tags: Sequence[bytes]) -> int:
        """Remove the segments of passages that were deleted. Raises UnavailableError when the store
        cannot be reached, or a restart of it may bring them back."""
        if self._client is None:
            return 0
        try:
            return self._client.remove_tags(tags)
        except KVStoreError as error:
            raise UnavailableError(f"segments were not removed for good: {error}") from error
        finally:
            self._tier.forget(tags)  # second, or a request could take them in again


def _stored(
    client: StoreClient,
    acquired: Acquired,
    spec: SegmentSpec,
    extent: Extent,
    on_device: Tensor | None = None,
) -> Stored:
    return Stored(extent, as_tensor(client.view(acquired, extent), spec), on_device)


def remaining(deadline: float) -> float:
    """Seconds until a monotonic time; raises ExpiredError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise ExpiredError("the request's time was up before its answer was computed")
    return left
