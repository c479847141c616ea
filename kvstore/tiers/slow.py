"""A tier over a medium: the books of what is there, within a bound, in memory.

What a predecessor left, or another store writes to a shared medium, is found in two ways: `recover`
lists it, beside serving, and `find` asks the medium for one key that no listing has shown yet. The
caller adopts what it wants to know of; so the tier and whoever keeps its order of eviction always
know the same.
"""

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from kvstore.checksum import layer_bytes, layer_crc, verify_segment
from kvstore.codec import Header, encode_header
from kvstore.compression import RAW, Codec
from kvstore.errors import CapacityError, CorruptSegmentError, TierUnavailableError
from kvstore.tiers.base import Entry, Reader, Tier
from kvstore.tiers.medium import Listed, Medium
from kvstore.tiers.segment_object import ObjectReader, read_header
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

_HEADERS_AT_ONCE = 64
_RECOVERY_THREADS = 2


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of the medium, by which it is named until its bytes are gone."""

    entry: Entry
    name: str


class SlowTier(Tier):
    """Thread-safe: its lock guards only the books, never a call to the medium."""

    def __init__(
        self,
        medium: Medium,
        max_bytes: int,
        free_share: float = 1.0,
        codec: Codec = RAW,
    ) -> None:
        """`free_share` is of what is free, or ours, on a medium that knows that. `codec` is that of
        what is written from now on, raw by default; what is there is read with its own."""
        self.name = medium.tier
        self._codec = codec
        self._medium = medium
        self._max_bytes = max_bytes
        self._free_share = free_share
        self._free_bytes = medium.free_bytes()
        self._lock = threading.Lock()
        self._stored: dict[SegmentKey, Stored] = {}
        self._writing: dict[SegmentKey, int] = {}  # bytes of objects on their way in
        self._leaving: set[Stored] = set()  # out of sight, not yet off the medium
        self._unread: dict[str, int] = {}  # listed, but their header was not read yet
        self._used = 0
        self._found_bytes = 0
        self._listed = self._recovered = False

    @property
    def complete(self) -> bool:
        """Whether `keys` is all there is: nothing is left to recover, and nobody else writes."""
        return self._recovered and self._medium.exclusive

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
        return self._used + self._medium.aside_bytes

    def contains(self, key: SegmentKey) -> bool:
        return key in self._stored

    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        """Returns when the object is there to stay. After recovery: before it, what counts
        towards the bound is not known."""
        verify_segment(spec, data, crcs)
        header, payload = self._encode(spec, data, crcs)
        nbytes = len(header) + payload.nbytes
        with self._lock:
            if spec.key in self._stored or spec.key in self._writing:
                return
            if self.used_bytes + nbytes > self.capacity_bytes:
                raise CapacityError(nbytes, self.capacity_bytes - self.used_bytes)
            self._used += nbytes
            self._writing[spec.key] = nbytes
        try:
            name = self._medium.write(spec.key, header, payload)
        except OSError as error:
            with self._lock:
                self._used -= nbytes
                del self._writing[spec.key]
            raise TierUnavailableError(self.name, f"{spec.key}: {error}") from error
        with self._lock:
            del self._writing[spec.key]
            if spec.key in self._stored:  # found by another reader the moment it was there
                self._used -= nbytes
            else:
                self._stored[spec.key] = Stored(Entry(spec, nbytes, time.time()), name)

    def open(self, key: SegmentKey) -> Reader | None:
        stored = self._stored.get(key)
        if stored is None:
            return None
        try:
            source = self._medium.open(stored.name)
            return ObjectReader(source, stored.entry.spec, self.name, stored.name)
        except FileNotFoundError:  # somebody tidied up, or a removal won the race
            if gone := self.detach(key):
                self._left(gone)
            return None
        except OSError as error:
            raise TierUnavailableError(self.name, f"{stored.name}: {error}") from error

    def remove(self, key: SegmentKey) -> None:
        if stored := self.detach(key):
            self.discard(stored)

    def detach(self, key: SegmentKey) -> Stored | None:
        """First half of `remove`, in memory alone: out of sight, its bytes still counted."""
        with self._lock:
            stored = self._stored.pop(key, None)
            if stored is not None:
                self._leaving.add(stored)
        return stored

    def discard(self, stored: Stored, damaged: bool = False) -> None:
        """Second half: the bytes are gone, or set aside for an operator when they are damaged. A
        medium that cannot do that keeps them counted; then raises TierUnavailableError."""
        try:
            (self._medium.set_aside if damaged else self._medium.delete)(stored.name)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{stored.name}: {error}") from error
        self._left(stored)

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
            listed = sorted(self._medium.list(), key=lambda it: it.last_use, reverse=True)
        except OSError as error:
            raise TierUnavailableError(self.name, f"cannot be listed: {error}") from error
        with self._lock:
            known = {stored.name for stored in self._stored.values()}
            self._unread = {it.name: it.nbytes for it in listed if it.name not in known}
            self._used += sum(self._unread.values())
            self._found_bytes = self._used
            self._listed = True
        starts = range(0, len(listed), _HEADERS_AT_ONCE)
        batches = [listed[i : i + _HEADERS_AT_ONCE] for i in starts]
        pool = ThreadPoolExecutor(_RECOVERY_THREADS, f"kvstore-recover-{self.name}")
        try:
            for found in pool.map(self._read_all, batches):
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)
        self._recovered = True

    def adopt(self, stored: Stored, recovered: bool = False) -> bool:
        """Know of it from now on. False when it was adopted, or is gone, already; or when the key
        is known by another name: this double is leaving now, and the caller discards it."""
        key = stored.entry.key
        with self._lock:
            known = self._stored.get(key)
            was_listed = recovered or (self._listed and self._medium.exclusive)
            if was_listed and stored.name not in self._unread:
                return False
            if known is not None and known.name == stored.name:
                return False
            self._used += stored.entry.nbytes - self._unread.pop(stored.name, 0)
            if known is None:
                self._stored[key] = stored
            else:  # a crash between a new object and the end of the old one
                self._leaving.add(stored)
        return known is None

    def is_leaving(self, stored: Stored) -> bool:
        return stored in self._leaving

    def keys(self) -> Iterator[Entry]:
        with self._lock:
            entries = [stored.entry for stored in self._stored.values()]
        return iter(sorted(entries, key=lambda entry: entry.last_use))

    def check(self) -> list[str]:
        """Sizes add up, and every visible object is there with its size."""
        with self._lock:
            stored, used = list(self._stored.values()), self._used
            moving = sum(self._writing.values()) + sum(s.entry.nbytes for s in self._leaving)
            moving += sum(self._unread.values())
        problems = []
        if (total := sum(s.entry.nbytes for s in stored) + moving) != used:
            problems.append(f"{self.name}: {len(stored)} objects of {total} bytes, counted {used}")
        if self.used_bytes > self.capacity_bytes:
            problems.append(f"{self.name}: {self.used_bytes} bytes used of {self.capacity_bytes}")
        try:
            sizes = {it.name: it.nbytes for it in self._medium.list()}
        except OSError as error:
            return [*problems, f"{self.name}: cannot be listed: {error}"]
        for one in stored:
            size = sizes.get(one.name, -1)
            if size != one.entry.nbytes and self._stored.get(one.entry.key) is one:
                problems.append(f"{self.name}: {one.name} has {size} bytes, not {one.entry.nbytes}")
        return problems

    def close(self) -> None:
        self._medium.close()

    def entry(self, key: SegmentKey) -> Entry | None:
        stored = self._stored.get(key)
        return None if stored is None else stored.entry

    def _encode(
        self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]
    ) -> tuple[bytes, memoryview]:
        """Header and payload. What the codec cannot represent is written raw."""
        if not self._codec.lossless:
            layout, codec = spec.layout, self._codec
            layers = (layer_bytes(spec, data, i) for i in range(layout.num_layers))
            with suppress(ValueError):
                encoded = [codec.encode_layer(layout, layer) for layer in layers]
                coded = tuple(layer_crc(spec.key, i, layer) for i, layer in enumerate(encoded))
                return encode_header(Header(spec, coded, codec)), memoryview(b"".join(encoded))
        return encode_header(Header(spec, tuple(crcs))), data

    def _left(self, stored: Stored) -> None:
        with self._lock:
            self._leaving.discard(stored)
            self._used -= stored.entry.nbytes

    def _read_all(self, batch: Sequence[Listed]) -> list[Stored]:
        found = []
        for listed in batch:
            try:
                stored = self._read(listed) if listed.name in self._unread else None
            except OSError as error:  # it may be sound: left alone, and counted, until a restart
                logger.warning("%s: %s cannot be read: %s", self.name, listed.name, error)
                continue
            if stored is not None:
                found.append(stored)
        return found

    def _read(self, listed: Listed) -> Stored | None:
        """None for one that is damaged, and now set aside, or gone."""
        try:
            with self._medium.open(listed.name) as source:
                header, nbytes = read_header(source, listed.name), source.nbytes
            key = header.spec.key
            if key.placement.hex() not in listed.name or key.digest.hex() not in listed.name:
                raise CorruptSegmentError(str(key), f"is in an object named {listed.name}")
        except FileNotFoundError:
            self._forget(listed.name)
            return None
        except CorruptSegmentError as error:
            logger.warning("%s: set aside: %s", self.name, error)
            self._medium.set_aside(listed.name)
            self._forget(listed.name)
            return None
        return Stored(Entry(header.spec, nbytes, listed.last_use), listed.name)

    def _forget(self, name: str) -> None:
        """An object that was listed and is not there any more."""
        with self._lock:
            self._used -= self._unread.pop(name, 0)
