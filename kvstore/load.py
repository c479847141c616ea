"""One read of a segment from a slow tier into the arena."""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from kvstore.arrival import Arrival
from kvstore.leases import Lease
from kvstore.tiers.base import Reader
from kvstore.types import Extent, SegmentKey, SegmentSpec, TierName


@dataclass(eq=False, slots=True)
class Load:
    """The metadata lock guards it, but for `layers`, `num_layers`, `crcs`, `started` and `reader`,
    which are the thread's that reads."""

    spec: SegmentSpec
    extent: Extent
    tier: TierName = field(init=False)
    """Where it is looked for now, at the end where it was found."""
    arrival: Arrival = field(init=False)
    """What those who read along see of it."""
    layers: Iterator[None] = field(init=False)
    """Reads one layer at each step."""
    num_layers: int = 0
    """Verified and in place."""
    crcs: tuple[int, ...] | None = None
    """Of the layers, once all are there."""
    leases: set[Lease] = field(default_factory=set)
    """Who waits for it in `acquire`, and is pinned to the result; whom the deadline took is not."""
    readers: set[Lease] = field(default_factory=set)
    """Who was given it on its way, and is pinned to the result; who ended is not."""
    takes_turns: bool = False
    """Somebody wants its layers as they come (see `kvstore.reading`)."""
    ahead: bool = False
    """Begun for a queued request."""
    started: float = 0.0
    """Monotonic time at which a thread took it up; 0: it is in a queue."""
    reader: Reader | None = None
    """The open object."""
    late: bool = False
    """It hangs, or stands behind one that does: nobody waits for it any more."""
    done: bool = False
    succeeded: bool = False
    """It is in the arena, to be found there."""
    doomed: bool = False
    """Its passage was removed meanwhile: the result is not published."""

    @property
    def has_begun(self) -> bool:
        """The object is what was asked for, and its first layer is in place."""
        return self.num_layers > 0

    @property
    def silent_since(self) -> float:
        """When its medium last gave something, on the monotonic clock: slow is not hanging. 0: it
        is in a queue."""
        if not self.started or self.reader is None:
            return self.started
        return max(self.started, self.reader.last_bytes_at)

    @property
    def is_unasked(self) -> bool:
        """Nobody but a queued request wants it yet."""
        return self.ahead and not self.leases and not self.readers

    def is_wanted(self, queued: Container[SegmentKey]) -> bool:
        """Whether to begin with it: somebody waits, or it is among what queued requests need."""
        return bool(self.leases) or (self.ahead and self.spec.key in queued)
