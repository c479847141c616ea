"""One `acquire`: match paths, pin what is there, read what slow tiers have, claim what nobody
has. A streamed one is content with reads that have begun."""

from collections.abc import Generator, Iterator, Sequence

from kvstore.books import Books
from kvstore.claiming import Claiming
from kvstore.leases import Lease
from kvstore.load import Load
from kvstore.loads import Loads
from kvstore.tiers.dram import Slot
from kvstore.types import Acquired, Hit, Path, SegmentKey, SegmentSpec, TierName

_AT_ONCE = 16
"""Segments that are noted or touched in one step."""


class Matcher:
    """Used in turns (see `kvstore.turns`): `look`, wait for its reads without the lock, `settle`,
    `look` again; when there is nothing left to read, `answer`. So a caller claims nothing while it
    waits. All that it claims it claims in one moment (`_claim_all`): whoever it then waits for
    claimed before it did, and two callers cannot wait for each other."""

    def __init__(
        self, books: Books, loads: Loads, lease: Lease, paths: Sequence[Path], streamed: bool
    ) -> None:
        self._books = books
        self._loads = loads
        self._lease = lease
        self._paths = paths
        specs = (spec for path in paths for spec in path)
        self._streamable = frozenset(specs) if streamed else frozenset()
        self._read: dict[SegmentKey, TierName] = {}
        self._arriving: dict[SegmentKey, Load] = {}
        self._unreadable: set[SegmentKey] = set()
        self._unpinnable: set[SegmentKey] = set()
        """There, but its tenant holds too much: computed again, and not kept."""
        self._hits: dict[SegmentKey, Hit] = {}
        self._claiming = Claiming(books, lease, self._is_arriving)
        self.only_pinned = False
        """Hits are what `look` has pinned, which its caller has verified."""
        self.pending: list[Load] = []
        """Reads that the last `look` has begun or joined."""
        self.answered: Acquired | None = None

    def look(self, may_read: bool) -> Iterator[None]:
        """Pin what DRAM has of every path; then start or join the reads of what only a slow tier
        has, or may have."""
        rests: list[Path] = []
        yield from self._look_after_arriving()
        for path in self._paths:
            for start in range(0, len(path), _AT_ONCE):
                self._books.note(path[start : start + _AT_ONCE])
                yield
            num_pinned = yield from self._pin_head(path)
            rests.append(path[num_pinned:])
        for rest in rests if may_read else ():
            yield from self._begin_reads(rest)

    def _begin_reads(self, rest: Path) -> Iterator[None]:
        for spec in rest:
            yield
            if spec.key in self._unpinnable:
                return
            if self._slot(spec) is not None or spec.key in self._arriving:
                continue  # behind a hole that a read is about to close: the next look pins it
            if spec.key in self._unreadable or self._books.claims.is_flying(spec.key):
                return
            load = yield from self._join(spec)
            if load is None:
                return
            self.pending.append(load)

    def needs(self, load: Load) -> bool:
        """Whether there is something left to wait for."""
        return not (load.done or load.late or self._may_stream(load))

    def settle(self) -> Iterator[None]:
        """After the wait: what was read, or is on its way, and what this call must do without."""
        pending, self.pending = self.pending, []
        for load in pending:
            yield
            key = load.spec.key
            load.leases.discard(self._lease)
            if load.succeeded:
                self._read[key] = load.tier
            elif self._may_stream(load):
                load.readers.add(self._lease)
                self._arriving[key], self._read[key] = load, load.tier
            else:
                self._unreadable.add(key)

    def answer(self, claim: bool) -> Iterator[None]:
        """What is pinned are hits; the rest is claimed."""
        books = self._books
        for tenant in {path[0].tenant for path in self._paths if path}:
            books.note_active((tenant,))
            yield
        self._claiming.begin()
        for path in self._paths:
            yield from self._plan(path, claim)
        while lost := self._claiming.claim_all():
            yield from self._claiming.drop(lost)
            for path in self._paths:
                yield
                if not lost.isdisjoint([spec.key for spec in path]):
                    yield from self._plan(path, claim)
            yield from self._claiming.drop_unneeded(self._paths, self._hits)
        tickets, waiters = self._claiming.tickets, self._claiming.waiters
        books.counters.misses += len(tickets)
        books.counters.waits += len(waiters)
        self.answered = Acquired(
            self._lease.lease_id, books.dram.arena, self._hits, tickets, frozenset(waiters)
        )

    def _plan(self, path: Path, claim: bool) -> Iterator[None]:
        rest = yield from self._hit_head(path)
        if rest and claim:
            yield from self._claiming.plan(path[: len(path) - len(rest)], rest)

    def _may_stream(self, load: Load) -> bool:
        """Its first layer is there, and was verified as what is asked for: enough to begin with."""
        is_coming = load.has_begun and not load.done and not load.late
        return is_coming and load.spec in self._streamable

    def _is_arriving(self, key: SegmentKey) -> bool:
        load = self._arriving.get(key)
        return load is not None and self._lease in load.readers

    def _look_after_arriving(self) -> Iterator[None]:
        """Of what was on its way: what has landed, was lost, or begins again in another tier."""
        for key, load in list(self._arriving.items()):
            yield
            if load.done or load.late or self._lease not in load.readers:
                del self._arriving[key]
                load.readers.discard(self._lease)
                if load.late or (load.done and not load.succeeded):
                    self._unreadable.add(key)

    def _pin_head(self, path: Path) -> Generator[None, None, int]:
        """How many segments from the start are in DRAM, pinned now, or on their way there."""
        for i, spec in enumerate(path):
            slot = self._slot(spec)
            if slot is not None:
                if not self._books.dram.may_pin(slot):
                    self._unpinnable.add(spec.key)
                    return i
                self._unpinnable.discard(spec.key)
                self._books.leases.pin(self._lease, slot)
            elif spec.key not in self._arriving:
                return i
            yield
        return len(path)

    def _slot(self, spec: SegmentSpec) -> Slot | None:
        slot = self._books.dram.find(spec.key)
        if slot is not None and slot.spec.layout != spec.layout:
            self._books.condemn(slot)
            return None
        return slot

    def _join(self, spec: SegmentSpec) -> Generator[None, None, Load | None]:
        load = yield from self._loads.join(spec, self._lease, spec in self._streamable)
        if load is None:
            self._unreadable.add(spec.key)
        return load

    def _hit_head(self, path: Path) -> Generator[None, None, Path]:
        """What lies behind the hits of a path. A hit is pinned from here on, whatever becomes of
        its key in another turn."""
        num_hits = 0
        for spec in path:
            slot = self._slot(spec)
            if slot is not None and self._may_hit(slot):
                self._books.leases.pin(self._lease, slot)
            elif slot is not None or not self._is_arriving(spec.key):
                break
            if spec.key not in self._hits:
                self._add_hit(spec, slot)
            num_hits += 1
            yield
        leaf_first = [spec.key for spec in reversed(path[:num_hits])]
        for start in range(0, num_hits, _AT_ONCE):
            self._books.touch(leaf_first[start : start + _AT_ONCE])
            yield
        return path[num_hits:]

    def _may_hit(self, slot: Slot) -> bool:
        if slot in self._lease.slots:
            return True
        return not self.only_pinned and self._books.dram.may_pin(slot)

    def _add_hit(self, spec: SegmentSpec, slot: Slot | None) -> None:
        books, key = self._books, spec.key
        if slot is None:
            load = self._arriving[key]
            hit = Hit(load.spec, load.extent, load.tier, arriving=True)
        else:
            books.offer(slot)
            hit = Hit(slot.spec, slot.extent, self._read.get(key, "dram"))
        self._hits[key] = hit
        if books.ahead.has(key.digest):
            books.ahead.pop(key.digest)
            books.counters.prefetch_used += 1
        if hit.tier == "dram":
            books.dram_shelf.hits += 1
        for level in books.levels:
            level.shelf.hits += hit.tier == level.name
