"""What a device tier keeps, and what it lends of it."""

from collections.abc import Container
from dataclasses import dataclass, field

from torch import Tensor

from kvstore.types import Acquired, Extent, SegmentKey, SegmentSpec


@dataclass(frozen=True, slots=True)
class Stored:
    """A segment that the store has, pinned for this request."""

    extent: Extent
    kv: Tensor
    """[L, 2, Hkv, T, dh], a view of the arena."""
    on_device: Tensor | None = None
    """The same on the device, where this request has computed it, or brought it."""


@dataclass(eq=False, slots=True)
class Resident:
    """One segment that the tier keeps."""

    spec: SegmentSpec
    kv: Tensor
    nbytes: int
    acquired: Acquired
    extent: Extent
    """Where it came from: bytes of the arena, under a lease of that `acquired`."""
    loans: int = 0
    doomed: bool = False
    """Goes with its last loan."""


@dataclass(slots=True)
class Loan(Container[SegmentKey]):
    """What one request reads of the tier: none of it goes until it is given back."""

    residents: dict[SegmentKey, Resident] = field(default_factory=dict)

    def __contains__(self, key: object) -> bool:
        return key in self.residents

    def add(self, resident: Resident) -> None:
        if resident.spec.key not in self.residents:
            self.residents[resident.spec.key] = resident
            resident.loans += 1

    @property
    def tensors(self) -> dict[SegmentKey, Tensor]:
        return {key: resident.kv for key, resident in self.residents.items()}
