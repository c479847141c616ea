"""The contract of a tier: where whole, checksummed segments are kept."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kvstore.checksum import layer_bytes, verify_layer
from kvstore.tiers.closable import Closable
from kvstore.types import SegmentKey, SegmentSpec, TierName


@dataclass(frozen=True, slots=True)
class Entry:
    """One segment that a tier holds."""

    spec: SegmentSpec
    nbytes: int
    """What it takes in the tier: header and rounding included."""
    last_use: float
    """Seconds since the epoch, as far as the tier knows; a restart orders by it."""

    @property
    def key(self) -> SegmentKey:
        return self.spec.key


class Reader(Closable):
    """An open segment. `crcs` are those of the layers as `layer` gives them; where the codec loses
    precision, of a layer only once it was read."""

    def __init__(self, spec: SegmentSpec, crcs: tuple[int, ...]) -> None:
        self.spec = spec
        self.crcs = crcs
        self.last_bytes_at = 0.0
        """Monotonic time at which the medium last gave some; 0: none yet."""

    @abstractmethod
    def layer(self, index: int, into: memoryview | None = None) -> memoryview:
        """Bytes of one layer, verified; in `into` (exactly a layer) when it is given.

        Raises CorruptSegmentError when they are not what was put, TierUnavailableError when the
        medium fails. What `into` holds after an error is undefined.
        """


class MemoryReader(Reader):
    """A segment whose bytes are in memory, for as long as it is open."""

    def __init__(self, spec: SegmentSpec, crcs: tuple[int, ...], data: memoryview) -> None:
        super().__init__(spec, crcs)
        self._data = data

    def layer(self, index: int, into: memoryview | None = None) -> memoryview:
        data = layer_bytes(self.spec, self._data, index)
        verify_layer(self.spec.key, index, data, self.crcs[index])
        if into is None:
            return data
        into[:] = data
        return into


class Tier(ABC):
    """Holds immutable segments up to `capacity_bytes`; never evicts: the store decides that.

    A tier whose calls take long (a disk) is thread-safe; a tier in memory is guarded by the store's
    metadata lock. Each says which it is.
    """

    name: TierName

    @abstractmethod
    def contains(self, key: SegmentKey) -> bool: ...

    @abstractmethod
    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        """Take a copy of a segment; visible only once complete and verified, else not at all.

        A key that is already there is left as it is: its content cannot differ. Raises
        CorruptSegmentError when `crcs` are not those of `data`, CapacityError when there is no room
        and TierUnavailableError when the medium does not take it.
        """

    @abstractmethod
    def open(self, key: SegmentKey) -> Reader | None:
        """None is a miss. Raises CorruptSegmentError for one that cannot be read as what it was."""

    @abstractmethod
    def remove(self, key: SegmentKey) -> None:
        """Idempotent. Open readers stay valid, or raise TierUnavailableError where the medium
        knows no open objects."""

    @abstractmethod
    def keys(self) -> Iterator[Entry]:
        """All that is visible, least recently used first."""

    @property
    @abstractmethod
    def capacity_bytes(self) -> int: ...

    @property
    @abstractmethod
    def used_bytes(self) -> int:
        """Never above the capacity; copies in flight count."""

    @abstractmethod
    def check(self) -> list[str]:
        """What does not add up in the books; empty is right. Does not read payloads."""

    @abstractmethod
    def close(self) -> None: ...
