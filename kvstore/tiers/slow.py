"""A tier over a medium: the books of what is there, within a bound, in memory.

What a predecessor left, or another store writes to a shared medium, is found in two ways: `recover`
lists it, beside serving, and `find` asks the medium for one key that no listing has shown yet. The
caller adopts what it wants to know of; so the tier and whoever keeps its order of eviction always
know the same. On a shared medium the bound is that of what this store wrote (`sharing.py`).
"""

import logging
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

from kvstore.checksum import verify_segment
from kvstore.codec import NOBODY, Label
from kvstore.compression import RAW, Codec
from kvstore.errors import (
    CapacityError,
    CorruptSegmentError,
    TierUnavailableError,
)
from kvstore.tiers.base import Entry, Reader, Tier
from kvstore.tiers.deadline import Deadline
from kvstore.tiers.ledger import Ledger
from kvstore.tiers.medium import Medium
from kvstore.tiers.purge import Purge
from kvstore.tiers.recovery import LastUse, Recovery
from kvstore.tiers.segment_object import ObjectReader, Stored, encode_segment
from kvstore.tiers.sharing import Sharing
from kvstore.tiers.steps import Step, no_step, stepped
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

_COUNT_S = 5.0
"""So long the listing may take by which the capacity is told at the start."""


class SlowTier(Tier):
    """Thread-safe."""

    def __init__(
        self,
        medium: Medium,
        max_bytes: int,
        free_share: float = 1.0,
        codec: Codec = RAW,
        sharing: Sharing = Sharing(),  # noqa: B008  # a value
    ) -> None:
        """`free_share` is of what is free, or ours, on a medium that knows that. `codec` is that of
        what is written; an object in one that it does not accept is a miss. `sharing`: of a medium
        that others write to."""
        self.name = medium.tier
        self._medium = medium
        self._codec = codec
        self._sharing = sharing
        self._max_bytes = max_bytes
        self._free_share = free_share
        self._free_bytes = medium.free_bytes()
        self._found_bytes = self._count_own()
        self._recovered = False
        self._ledger = Ledger(medium.exclusive)
        self._recovery = Recovery(medium, self._ledger, max_bytes, codec, sharing)
        self.purge = Purge(medium, self._ledger, self._recovery, sharing)

    @property
    def complete(self) -> bool:
        """Whether `keys` is all there is: nothing is left to recover, and nobody else writes."""
        return self._recovered and self._medium.exclusive

    @property
    def exclusive(self) -> bool:
        """Whether this node alone sees it."""
        return self._medium.exclusive

    @property
    def codec_misses(self) -> int:
        """Objects that were passed over because of the codec they are in."""
        return self._ledger.num_refused

    @property
    def is_listed(self) -> bool:
        """Whether all that is there counts: then there is room for what fits, and it may be
        written."""
        return self._medium.exclusive and self._ledger.is_listed

    def has_room(self, spec: SegmentSpec) -> bool:
        """Without any eviction."""
        return self.object_nbytes(spec) <= self.capacity_bytes - self.used_bytes

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

    def stored(self, key: SegmentKey) -> Stored | None:
        return self._ledger.find(key)

    def takes(self, spec: SegmentSpec) -> bool:
        """Whether the medium can have it at all."""
        return self._medium.takes(Label(spec, self._codec, self._sharing.writer))

    def object_nbytes(self, spec: SegmentSpec) -> int:
        """What an object of it takes at most: when it is written raw."""
        seal = self._sharing.seal
        return Label(spec, seal=seal.digest if seal else NOBODY).nbytes

    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        """Returns when the object is there to stay. Of a medium that is this store's alone: once
        it is listed; before that, what counts towards the bound is not known."""
        verify_segment(spec, data, crcs)
        sharing = self._sharing
        header, payload = encode_segment(
            spec, data, crcs, self._codec, sharing.writer, sharing.seal
        )
        nbytes = len(header) + payload.nbytes
        begun = self._ledger.begin(spec.key, nbytes, self.usable_bytes)
        if begun is None:
            raise CapacityError(nbytes, self.capacity_bytes - self.used_bytes)
        if not begun:
            return
        stored = None
        try:
            written = self._medium.write(spec.key, header, payload)
            if written.is_new:
                entry = Entry(spec, nbytes, time.time())
                stored = Stored(entry, written.name, sharing.evicts, sharing.writer)
        except OSError as error:
            raise TierUnavailableError(self.name, f"{spec.key}: {error}") from error
        finally:
            self._ledger.end(spec.key, stored)
        if stored is None and (present := self.find(spec.key)):
            self._ledger.adopt(present, recovered=False)

    def open(self, key: SegmentKey) -> Reader | None:
        stored = self._ledger.find(key)
        if stored is None:
            return None
        try:
            source = self._medium.open(stored.name)
            reader = ObjectReader(source, stored, self.name, self._sharing.seal)
        except FileNotFoundError:  # somebody tidied up, or a removal won the race
            if gone := self.detach(key):
                self._ledger.left(gone)
            return None
        except OSError as error:
            raise TierUnavailableError(self.name, f"{stored.name}: {error}") from error
        if self._codec.accepts(reader.codec):
            return reader
        reader.close()
        raise CorruptSegmentError(str(key), f"{stored.name} is {reader.codec.name} by its header")

    def remove(self, key: SegmentKey) -> None:
        if stored := self.detach(key):
            self.discard(stored)

    def detach(self, key: SegmentKey) -> Stored | None:
        """First half of `remove`, in memory alone: out of sight, its bytes still counted."""
        return self._ledger.detach(key)

    def drop(self, key: SegmentKey) -> None:
        """Know nothing of it any more; it stays on the medium."""
        self._ledger.drop(key)

    def is_leaving(self, stored: Stored) -> bool:
        return self._ledger.is_leaving(stored)

    def leaving(self, after: int = 0) -> list[Stored]:
        """Out of sight, and perhaps on the medium still; without those of the first `after`
        departures."""
        return self._ledger.leaving(after)

    @property
    def num_departures(self) -> int:
        """How many objects began to leave, since the start."""
        return self._ledger.num_departures

    def condemn(self, stored: Stored) -> None:
        """What was found on the medium is to go, and was never in sight."""
        self._ledger.condemn(stored)

    @property
    def is_clean(self) -> bool:
        """Whether what is out of sight is gone for good: from the books, the medium and its
        quarantine, and what a power cut can bring back."""
        is_settled = self._medium.settled and self._ledger.is_settled
        return is_settled and not self._medium.aside_bytes

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

    def tend(self) -> None:
        """Raises OSError where what a restart needs is gone, and cannot be made again."""
        self._medium.tend()

    def find(self, key: SegmentKey) -> Stored | None:
        """Ask the medium for what the books do not have. Raises TierUnavailableError."""
        try:
            listed = self._medium.find(key)
            if listed is None or not self._sharing.can_use(listed):
                return None
            found = self._recovery.read(replace(listed, last_use=time.time()))
        except OSError as error:
            raise TierUnavailableError(self.name, f"{key}: {error}") from error
        return found if found is None or found.entry.key == key else None

    def recall(self, last_use: LastUse) -> None:
        """What is known of the uses in an earlier life: recovery goes by them."""
        self._recovery.last_use = last_use

    def recover(self) -> Generator[Stored]:
        """What the medium has and nobody adopted, most recently used first: all of it, or what this
        store wrote to a shared one, and a part of the rest. From the first one on all of it counts.
        Ends early after `stop`. Raises TierUnavailableError when the medium cannot be listed."""
        try:
            self.settle()
        except TierUnavailableError as error:  # what is there can be read all the same
            logger.warning("%s", error)
        try:
            found = self._recovery.find_all()
        except OSError as error:
            raise TierUnavailableError(self.name, f"cannot be listed: {error}") from error
        yield from found
        self._recovered = not self._recovery.stopped

    def stop(self) -> None:
        """End a listing under way: the store is closing."""
        self._recovery.stopped = True

    def _count_own(self) -> int:
        """Bytes of what is there at the start, where the capacity depends on them: it is reported
        before anything is recovered, and must not change."""
        free = self._free_bytes
        if free is None or self._free_share * free >= self._max_bytes:
            return 0
        medium = self._medium
        try:
            listed = Deadline(_COUNT_S, threads=1).run(lambda: [it.nbytes for it in medium.list()])
            return sum(listed) + medium.aside_bytes
        except OSError as error:
            logger.warning(
                "%s: cannot be listed, its capacity counts free bytes: %s", self.name, error
            )
            return 0

    def adopt(self, stored: Stored, recovered: bool = False) -> bool:
        """Know of it from now on. False when it was adopted, or is gone, already; or when the key
        is known by another name: this double is leaving now, and the caller discards it."""
        return self._ledger.adopt(stored, recovered)

    def keys(self) -> Iterator[Entry]:
        entries = [stored.entry for stored in self._ledger.stored()]
        return iter(sorted(entries, key=lambda entry: entry.last_use))

    def check(self, step: Step = no_step) -> list[str]:
        """Sizes add up, and every visible object is there with its size, if nobody else writes.
        `step` is called at each object of the listing, and may raise to end it."""
        stored, problem = self._ledger.stored(), self._ledger.imbalance()
        problems = [f"{self.name}: {problem}"] if problem else []
        if not self._medium.exclusive:
            return problems
        try:
            sizes = {it.name: it.nbytes for it in stepped(self._medium.list(), step)}
        except OSError as error:
            return [*problems, f"{self.name}: cannot be listed: {error}"]
        for one in stored:
            size = sizes.get(one.name, -1)
            if size != one.entry.nbytes and self._ledger.find(one.entry.key) is one:
                found = f"has {size} bytes, not {one.entry.nbytes}" if size >= 0 else "is gone"
                problems.append(f"{self.name}: {one.name} {found}")
        return problems

    def close(self) -> None:
        self._medium.close()
