"""Who has which extents of an arena, and whether that adds up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kvstore.arena import taken_bytes
from kvstore.promises import holder_of
from kvstore.shares import miscounted
from kvstore.types import Extent, SegmentSpec


class Taken(Protocol):
    """An extent with the segment in it."""

    @property
    def spec(self) -> SegmentSpec: ...

    @property
    def extent(self) -> Extent: ...


@dataclass(frozen=True, slots=True)
class ExtentsCopy:
    """Who had which extents at one moment."""

    slots: Iterable[Taken]
    """Can be looked through once."""
    pinned: Iterable[Taken]
    reserved: Mapping[Extent, tuple[bytes, bytes]]
    num_taken: int
    used_bytes: int
    shares: Counter[bytes]
    promises: Counter[bytes]

    def check(self) -> list[str]:
        """Slots and reservations are at places of their own, as many and as large as the runs that
        are taken, and counted for their tenants."""
        owned = [(slot.extent, slot.spec.tenant) for slot in self.slots]
        owned += [(extent, tenant) for extent, (tenant, _) in self.reserved.items()]
        problems = []
        places = len({extent.offset for extent, _ in owned})
        nbytes = sum(taken_bytes(extent.nbytes) for extent, _ in owned)
        if not places == len(owned) == self.num_taken or nbytes != self.used_bytes:
            problems.append(
                f"dram: {len(owned)} extents of {nbytes} bytes at {places} places do not cover the "
                f"{self.num_taken} taken runs of {self.used_bytes} bytes"
            )
        sizes = ((tenant, taken_bytes(extent.nbytes)) for extent, tenant in owned)
        held = [(holder_of(slot.spec), taken_bytes(slot.extent.nbytes)) for slot in self.pinned]
        for extent, (_, holder) in self.reserved.items():
            held.append((holder, taken_bytes(extent.nbytes)))
        problems += miscounted("dram", self.shares, sizes)
        return problems + miscounted("dram, held", self.promises, held)
