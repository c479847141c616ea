"""The vocabulary of the store: keys, layouts, extents, and what one `acquire` answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, NewType

Dtype = Literal["float32", "bfloat16", "float16"]
ITEMSIZE: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

TierName = Literal["device", "dram", "peer", "ssd", "remote"]
STORE_TIERS: tuple[TierName, ...] = ("dram", "ssd", "remote")
"""Those of one node's store."""
HolderId = NewType("HolderId", str)
LeaseId = NewType("LeaseId", int)
TicketId = NewType("TicketId", int)

EVERYWHERE = bytes(8)
"""Placement of what every node owns: the configured prompt prefix."""
MARK_NBYTES = 4
"""Of a tag: its beginning, which is its mark in what follows it."""
MAX_FOLLOWED = 128
"""Segments before one that is kept."""


class SegmentKey(NamedTuple):
    """Names one immutable segment: what it holds, for which model, after what, for which tenant.

    A tuple, because the store looks a key up some twenty times per request, and a tuple is hashed
    and compared without a call of Python code.
    """

    placement: bytes
    """8 bytes; decides which nodes own it. A chain shares the placement of its first passage,
    but for the prompt prefix before it."""
    digest: bytes
    """32 bytes, blake2b over the parent's digest and the segment's own tokens."""

    def __str__(self) -> str:
        return f"{self.placement.hex()}-{self.digest.hex()}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Shape [num_layers, 2, num_kv_heads, num_tokens, head_dim], layer-major: a layer is one
    contiguous read."""

    num_layers: int
    num_kv_heads: int
    num_tokens: int
    head_dim: int
    dtype: Dtype

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        return (self.num_layers, 2, self.num_kv_heads, self.num_tokens, self.head_dim)

    @property
    def layer_nbytes(self) -> int:
        return 2 * self.num_kv_heads * self.num_tokens * self.head_dim * ITEMSIZE[self.dtype]

    @property
    def nbytes(self) -> int:
        return self.num_layers * self.layer_nbytes


@dataclass(frozen=True, slots=True)
class Root:
    """Where every chain of one model and one tenant begins."""

    digest: bytes
    """32 bytes; nothing matches across roots."""
    tenant: bytes
    """8 bytes, the digest of the tenant's name."""


@dataclass(frozen=True, slots=True)
class SegmentSpec:
    """What a caller asks for: the key, and what the store needs to hold it if it is not there
    yet."""

    key: SegmentKey
    parent: bytes
    """Digest of the segment before it in the chain; the root digest for the first."""
    tag: bytes
    """8 bytes that name the passage itself, wherever it stands: what a delete removes by."""
    tenant: bytes
    """8 bytes, the digest of the tenant's name: whose share of a tier the segment takes."""
    layout: Layout
    follows: bytes
    """Marks of the segments before it in the chain, the first one's first: a removal of any of them
    takes it too, whether they are stored or not. By chance, once in 2**32, another's: a miss."""

    @property
    def marks(self) -> list[bytes]:
        marks = self.follows
        return [marks[i : i + MARK_NBYTES] for i in range(0, len(marks), MARK_NBYTES)]

    @property
    def followed_by(self) -> bytes:
        """The marks of what comes next; beyond the bound one more tells that it is too deep."""
        return (self.follows + self.tag[:MARK_NBYTES])[: MARK_NBYTES * (MAX_FOLLOWED + 1)]

    @property
    def is_too_deep(self) -> bool:
        """Whether so much precedes it that it is not kept."""
        return len(self.follows) > MARK_NBYTES * MAX_FOLLOWED


Path = tuple[SegmentSpec, ...]
"""A chain of segments from the root; each one's KV depends on all before it."""


@dataclass(frozen=True, slots=True)
class ArenaRef:
    """Where a node's arena is mapped from. Another incarnation means another file."""

    path: str
    nbytes: int
    incarnation: str


class Extent(NamedTuple):
    """Bytes [offset, offset + nbytes) of the arena, valid while its generation stands. A tuple for
    the same reason as `SegmentKey`."""

    offset: int
    nbytes: int
    generation: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A complete, pinned segment in the arena, or one that is still arriving there. `tier` says
    where it was found."""

    spec: SegmentSpec
    extent: Extent
    tier: TierName
    arriving: bool = False
    """Only its first layer is known to be in place (`StoreClient.await_layer`); it is pinned once
    it is whole."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """You compute it. With an extent: write there, then commit. Without: there is no room, keep it
    to yourself."""

    ticket_id: TicketId
    spec: SegmentSpec
    extent: Extent | None


@dataclass(frozen=True, slots=True)
class Acquired:
    """The answer to one `acquire`: every path is hits, then tickets, or hits, then one waiter.

    A key shared by several paths appears once. What lies behind a waiter is not listed:
    wait, then acquire again. Hits, and tickets once committed, stay pinned until `release`.
    """

    lease_id: LeaseId
    arena: ArenaRef
    hits: Mapping[SegmentKey, Hit]
    tickets: Mapping[SegmentKey, Ticket]
    waiters: frozenset[SegmentKey]


@dataclass(frozen=True, slots=True)
class TierStats:
    capacity_bytes: int
    used_bytes: int
    num_segments: int
    hits: int
    evictions: int
    read_bytes: int = 0
    """Payload, into DRAM."""
    written_bytes: int = 0
    write_failures: int = 0
    writes_dropped: int = 0
    """The queue was full, the memory was needed before, or the tier is left alone."""
    write_queue: int = 0
    codec_misses: int = 0
    """Objects passed over: written in a codec that loses what this configuration does not."""
    tombstones: int = 0
    """Deleted passages of which the tier may still have something."""
    tenants: tuple[tuple[str, int], ...] = ()
    """Bytes of those that take most, by the hex digits of their digests."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a node says of a segment that it sends."""

    removals: frozenset[bytes] = frozenset()
    """Ids of removals of its passage, or of one that it follows, which that node had made before it
    read the segment."""


@dataclass(frozen=True, slots=True)
class ThreadStats:
    """A background thread (see `kvstore.supervised`)."""

    up: bool
    """It runs, or has done all that it was for."""
    failures: int
    """Items that failed and were skipped, since the start."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counters since start; bytes are exact, taken under the metadata lock."""

    dram: TierStats
    ssd: TierStats
    remote: TierStats
    misses: int
    waits: int
    commits: int
    aborts: int
    no_room: int
    corrupt: int
    unauthenticated: int
    """Objects of a remote tier that were not used, for want of the right MAC."""
    prefetch_reads: int
    """Segments that were read ahead for queued requests."""
    prefetch_used: int
    """Of these, in DRAM when they were first needed."""
    prefetch_late: int
    """Still being read then."""
    prefetch_unused: int
    """Gone again before anybody needed them."""
    leases: int
    open_tickets: int
    copies_bytes: int
    """DRAM taken by copies of what other nodes own."""
    threads: Mapping[str, ThreadStats]
    """Background threads, by name."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """`problems` is empty when the books balance; each line names the segment, tier and numbers."""

    segments_checked: int
    bytes_checked: int
    problems: tuple[str, ...]
    repaired: int
    unchecked: tuple[str, ...] = ()
    """Tiers and segments that were not looked at, or not to the end, and why."""

    @property
    def ok(self) -> bool:
        return not self.problems
