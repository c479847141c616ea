"""Between an engine and the store: KV tensors of chains, from the store or computed once.

What the store has is read in place. What nobody has, this engine computes into the extent that the
store reserved, and commits. What another engine is computing is waited for, holding no claim, so
that two engines can never wait for each other (ALGORITHMS 2.4). A store that cannot be reached,
or has no room, costs time, never an answer.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from actors.engine.models import TORCH_DTYPES
from actors.errors import ExpiredError
from actors.messages import CacheReport
from kvstore.client import StoreClient
from kvstore.errors import DeadlineError, KVStoreError
from kvstore.types import Acquired, Path, SegmentKey, SegmentSpec, Ticket

_WAIT_SLICE_S = 5.0
"""A wait for another's computation is cut here: its holder may have died, or be slower than we."""


@dataclass(slots=True)
class Lease:
    """Pinned hits and claimed tickets of some paths; tensors are valid until the lease ends."""

    tensors: dict[SegmentKey, Tensor] = field(default_factory=dict)
    """KV [L, 2, Hkv, T, dh] that is there: views of the arena."""
    tickets: dict[SegmentKey, Ticket] = field(default_factory=dict)
    """What is ours to compute."""
    waiting: frozenset[SegmentKey] = frozenset()
    """What another holder is computing."""
    acquired: Acquired | None = None
    store: Literal["used", "off", "unavailable"] = "used"

    def hits(self, keys: Collection[SegmentKey]) -> CacheReport:
        """Report on those of the keys that were found."""
        found = [hit for key in keys if self.acquired and (hit := self.acquired.hits.get(key))]
        return CacheReport(
            dram_hits=sum(hit.tier == "dram" for hit in found),
            ssd_hits=sum(hit.tier == "ssd" for hit in found),
            tokens_reused=sum(hit.spec.layout.num_tokens for hit in found),
            bytes_moved=sum(hit.spec.layout.nbytes for hit in found),
            store=self.store,
        )


class Segments:
    """Lends the KV of paths. Without a client, or a store that answers, nothing is there."""

    def __init__(self, client: StoreClient | None) -> None:
        self._client = client

    @property
    def on(self) -> bool:
        return self._client is not None

    @contextmanager
    def lease(self, paths: Sequence[Path], deadline: float) -> Iterator[Lease]:
        """Acquire once; release at the end, whatever happens. `deadline` is a monotonic time."""
        if self._client is None:
            yield Lease(store="off")
            return
        try:
            acquired = self._client.acquire(paths, remaining(deadline))
        except KVStoreError:
            yield Lease(store="unavailable")
            return
        try:
            yield self._open(self._client, acquired)
        finally:
            with suppress(KVStoreError):  # the shard is gone, and the lease with it
                self._client.release(acquired.lease_id)

    def _open(self, client: StoreClient, acquired: Acquired) -> Lease:
        hits = acquired.hits.values()
        return Lease(
            tensors={h.spec.key: as_tensor(client.view(acquired, h.extent), h.spec) for h in hits},
            tickets=dict(acquired.tickets),
            waiting=acquired.waiters,
            acquired=acquired,
        )

    def sink(self, lease: Lease, spec: SegmentSpec) -> Tensor | None:
        """Where to write a ticket's KV: the reserved extent, or None when there is no room."""
        ticket = lease.tickets.get(spec.key)
        if self._client is None or lease.acquired is None or ticket is None or not ticket.extent:
            return None
        return as_tensor(self._client.writable(lease.acquired, ticket), spec)

    def publish(self, lease: Lease, keys: Sequence[SegmentKey]) -> None:
        """Commit what was written for these tickets; a store that fails meanwhile is ignored."""
        tickets = [lease.tickets.pop(key) for key in keys if key in lease.tickets]
        written = [ticket for ticket in tickets if ticket.extent is not None]
        if self._client is None or lease.acquired is None or not written:
            return
        try:
            self._client.commit(lease.acquired, written)
        except KVStoreError:
            lease.store = "unavailable"

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
            with suppress(KVStoreError):
                self._client.announce(request_id, paths, deadline_s)

    def retire(self, request_id: str) -> None:
        """It is served now, or has gone. Idempotent."""
        if self._client is not None:
            with suppress(KVStoreError):
                self._client.retire(request_id)

    def unchanged(self, lease: Lease) -> bool:
        """Whether every byte that was read was still the segment's at the time of asking."""
        if self._client is None or lease.acquired is None:
            return True
        extents = [hit.extent for hit in lease.acquired.hits.values()]
        return self._client.unchanged(lease.acquired, extents)

    def forget(self, tags: Sequence[bytes]) -> int:
        """Remove the segments of passages that were deleted; 0 when the store cannot be reached."""
        if self._client is None:
            return 0
        try:
            return self._client.remove_tags(tags)
        except KVStoreError:
            return 0


def as_tensor(buffer: memoryview, spec: SegmentSpec) -> Tensor:
    """A tensor over the buffer's bytes, without a copy."""
    return torch.frombuffer(buffer, dtype=TORCH_DTYPES[spec.layout.dtype]).view(spec.layout.shape)


def remaining(deadline: float) -> float:
    """Seconds until a monotonic time; raises ExpiredError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise ExpiredError("the request's time was up before its answer was computed")
    return left
