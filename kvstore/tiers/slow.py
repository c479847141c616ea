"""A tier over a medium: the books of what is there, within a bound, in memory.

What a predecessor left, or another store writes to a shared medium, is found in two ways: `recover`
lists it, beside serving, and `find` asks the medium for one key that no listing has shown yet. The
caller adopts what it wants to know of; so the tier and whoever keeps its order of eviction always
know the same.
"""

import logging
import time
from collections.abc import Generator, Iterator, Sequence

from kvstore.checksum import verify_segment
from kvstore.compression import RAW, Codec
from kvstore.errors import (
    CapacityError,
    CorruptSegmentError,
    OtherVersionError,
    TierUnavailableError,
)
from kvstore.executor import DaemonExecutor
from kvstore.tiers.base import Entry, Reader, Tier
from kvstore.tiers.ledger import Ledger
from kvstore.tiers.medium import Listed, Medium
from kvstore.tiers.segment_object import ObjectReader, Stored, encode_segment, identify
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

_HEADERS_AT_ONCE = 64
_RECOVERY_THREADS = 2


class SlowTier(Tier):
    """Thread-safe."""

    def __init__(
        self,
        medium: Medium,
        max_bytes: int,
        free_share: float = 1.0,
        codec: Codec = RAW,
    ) -> None:
        """`free_share` is of what is free, or ours, on a medium that knows that. `codec` is that of
        what is written from now on; what is there is read with its own."""
        self.name = medium.tier
        self._medium = medium
        self._codec = codec
        self._max_bytes = max_bytes
        self._free_share = free_share
        self._free_bytes = medium.free_bytes()
        self._found_bytes = 0
        self._recovered = False
        self._ledger = Ledger(medium.exclusive)

    @property
    def complete(self) -> bool:
        """Whether `keys` is all there is: nothing is left to recover, and nobody else writes."""
        return self._recovered and self._medium.exclusive

    @property
    def exclusive(self) -> bool:
        """Whether this node alone sees it."""
        return self._medium.exclusive

    @property
    def capacity_bytes(self) -> int:
        if self._free_bytes is None:
            return self._max_bytes
        ours = self._found_bytes
        return min(self._max_bytes, int(self._free_share * (self._free_bytes + ours)))

    @property
    def usable_bytes(self) -> int:
        """The capacity without what is in quarantine."""
        return self.capacity_bytes - self._medium.aside_bytes

    @property
    def used_bytes(self) -> int:
        return self._ledger.used + self._medium.aside_bytes

    def contains(self, key: SegmentKey) -> bool:
        return self._ledger.find(key) is not None

    def entry(self, key: SegmentKey) -> Entry | None:
        stored = self._ledger.find(key)
        return None if stored is None else stored.entry

    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        """Returns when the object is there to stay. After recovery: before it, what counts
        towards the bound is not known."""
        verify_segment(spec, data, crcs)
        header, payload = encode_segment(spec, data, crcs, self._codec)
        nbytes = len(header) + payload.nbytes
        begun = self._ledger.begin(spec.key, nbytes, self.usable_bytes)
        if begun is None:
            raise CapacityError(nbytes, self.capacity_bytes - self.used_bytes)
        if not begun:
            return
        name = None
        try:
            name = self._medium.write(spec.key, header, payload)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{spec.key}: {error}") from error
        finally:
            self._ledger.end(spec, name)

    def open(self, key: SegmentKey) -> Reader | None:
        stored = self._ledger.find(key)
        if stored is None:
            return None
        try:
            source = self._medium.open(stored.name)
            return ObjectReader(source, stored.entry.spec, self.name, stored.name)
        except FileNotFoundError:  # somebody tidied up, or a removal won the race
            if gone := self.detach(key):
                self._ledger.left(gone)
            return None
        except OSError as error:
            raise TierUnavailableError(self.name, f"{stored.name}: {error}") from error

    def remove(self, key: SegmentKey) -> None:
        if stored := self.detach(key):
            self.discard(stored)

    def detach(self, key: SegmentKey) -> Stored | None:
        """First half of `remove`, in memory alone: out of sight, its bytes still counted."""
        return self._ledger.detach(key)

    def is_leaving(self, stored: Stored) -> bool:
        return self._ledger.is_leaving(stored)

    def discard(self, stored: Stored, damaged: bool = False) -> None:
        """Second half: the bytes are gone, or set aside for an operator when they are damaged. A
        medium that cannot do that keeps them counted; then raises TierUnavailableError."""
        try:
            (self._medium.set_aside if damaged else self._medium.delete)(stored.name)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{stored.name}: {error}") from error
        self._ledger.left(stored)

    def settle(self) -> None:
        """What was discarded does not come back, not after a power cut either. Raises
        TierUnavailableError."""
        try:
            self._medium.settle()
        except OSError as error:
            raise TierUnavailableError(self.name, f"cannot be synced: {error}") from error

    def find(self, key: SegmentKey) -> Stored | None:
        """Ask the medium for what the books do not have. Raises TierUnavailableError."""
        try:
            name = self._medium.find(key)
            found = None if name is None else self._read(Listed(name, 0, time.time()))
        except OSError as error:
            raise TierUnavailableError(self.name, f"{key}: {error}") from error
        return found if found is None or found.entry.key == key else None

    def recover(self) -> Generator[Stored]:
        """What the medium has and nobody adopted, most recently used first. From the first one on
        all of it counts. Raises TierUnavailableError when the medium cannot be listed."""
        try:
            self._medium.settle()
            listed = sorted(self._medium.list(), key=lambda it: it.last_use, reverse=True)
        except OSError as error:
            raise TierUnavailableError(self.name, f"cannot be listed: {error}") from error
        self._ledger.listed(listed)
        self._found_bytes = self._ledger.used
        starts = range(0, len(listed), _HEADERS_AT_ONCE)
        batches = [listed[i : i + _HEADERS_AT_ONCE] for i in starts]
        pool = DaemonExecutor(_RECOVERY_THREADS, f"kvstore-recover-{self.name}")
        try:
            for found in pool.map(self._read_all, batches):
                yield from found
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        self._recovered = True

    def adopt(self, stored: Stored, recovered: bool = False) -> bool:
        """Know of it from now on. False when it was adopted, or is gone, already; or when the key
        is known by another name: this double is leaving now, and the caller discards it."""
        return self._ledger.adopt(stored, recovered)

    def keys(self) -> Iterator[Entry]:
        entries = [stored.entry for stored in self._ledger.stored()]
        return iter(sorted(entries, key=lambda entry: entry.last_use))

    def check(self) -> list[str]:
        """Sizes add up, and every visible object is there with its size, if nobody else writes."""
        stored, problem = self._ledger.stored(), self._ledger.imbalance()
        problems = [f"{self.name}: {problem}"] if problem else []
        if self.used_bytes > self.capacity_bytes:
            problems.append(f"{self.name}: {self.used_bytes} bytes used of {self.capacity_bytes}")
        if not self._medium.exclusive:
            return problems
        try:
            sizes = {it.name: it.nbytes for it in self._medium.list()}
        except OSError as error:
            return [*problems, f"{self.name}: cannot be listed: {error}"]
        for one in stored:
            size = sizes.get(one.name, -1)
            if size != one.entry.nbytes and self._ledger.find(one.entry.key) is one:
                found = f"has {size} bytes, not {one.entry.nbytes}" if size >= 0 else "is gone"
                problems.append(f"{self.name}: {one.name} {found}")
        return problems

    def strays(self) -> list[str]:
        """Names of what is on the medium and in no book, once all is recovered; none where others
        write too. Raises TierUnavailableError."""
        if not self.complete or not (first := self._strange()):
            return []
        again = self._strange()  # what was moving at first is settled by now
        return [name for name in first if name in again]

    def discard_stray(self, name: str) -> bool:
        """Whether it is gone now: what is no file of a store is left to whoever put it there.
        Raises TierUnavailableError."""
        try:
            self._medium.delete(name)
        except PermissionError:
            return False
        except OSError as error:
            raise TierUnavailableError(self.name, f"{name}: {error}") from error
        return True

    def close(self) -> None:
        self._medium.close()

    def _strange(self) -> list[str]:
        try:
            found = [*self._medium.strays(), *(it.name for it in self._medium.list())]
        except OSError as error:
            raise TierUnavailableError(self.name, f"cannot be listed: {error}") from error
        return self._ledger.unknown(found)

    def _read_all(self, batch: Sequence[Listed]) -> list[Stored]:
        found = []
        for listed in batch:
            try:
                stored = self._read(listed) if self._ledger.is_unread(listed.name) else None
            except OSError as error:  # it may be sound: left alone, and counted, until a restart
                logger.warning("%s: %s cannot be read: %s", self.name, listed.name, error)
                continue
            if stored is not None:
                found.append(stored)
        return found

    def _read(self, listed: Listed) -> Stored | None:
        """None for one that is gone; one that is damaged is set aside now, one of another version
        deleted."""
        try:
            return identify(self._medium, listed)
        except FileNotFoundError:
            pass
        except OtherVersionError:
            self._medium.delete(listed.name)
        except CorruptSegmentError as error:
            logger.warning("%s: set aside: %s", self.name, error)
            self._medium.set_aside(listed.name)
        self._ledger.forget(listed.name)
        return None
