"""One `acquire`: match paths, pin what is there, read what slow tiers have, claim what nobody
has. A streamed one is content with reads that have begun."""

from collections import Counter
from collections.abc import Sequence

from kvstore.books import Books
from kvstore.leases import Lease
from kvstore.load import Load
from kvstore.loads import Loads
from kvstore.tiers.dram import Slot
from kvstore.types import Acquired, Hit, Path, SegmentKey, SegmentSpec, Ticket, TicketId, TierName


class Matcher:
    """Used in turns: `look` under the lock, wait for its reads without it, `settle`, `look` again;
    when there is nothing left to read, `answer` under the same lock. So a caller claims nothing
    while it waits, and two callers cannot wait for each other."""

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
        self._tickets: dict[SegmentKey, Ticket] = {}
        self._waiters: set[SegmentKey] = set()

    def look(self, may_read: bool) -> list[Load]:
        """Pin what DRAM has of every path; then start or join the reads of what only a slow tier
        has, or may have."""
        books = self._books
        for path in self._paths:
            self._books.note(path)
        self._look_after_arriving()
        rests = [path[self._pin_head(path) :] for path in self._paths]
        pending: list[Load] = []
        for rest in rests if may_read else ():
            for spec in rest:
                if spec.key in self._unpinnable:
                    break
                if self._slot(spec) is not None or spec.key in self._arriving:
                    continue  # behind a hole that a read is about to close: the next look pins it
                if spec.key in self._unreadable or books.claims.is_flying(spec.key):
                    break
                load = self._join(spec)
                if load is None:
                    break
                pending.append(load)
        return pending

    def needs(self, load: Load) -> bool:
        """Whether there is something left to wait for."""
        return not (load.done or load.late or self._may_stream(load))

    def settle(self, pending: Sequence[Load]) -> None:
        """After the wait: what was read, or is on its way, and what this call must do without."""
        for load in pending:
            key = load.spec.key
            load.leases.discard(self._lease)
            if load.succeeded:
                self._read[key] = load.tier
            elif self._may_stream(load):
                load.readers.add(self._lease)
                self._arriving[key], self._read[key] = load, load.tier
            else:
                self._unreadable.add(key)

    def answer(self, claim: bool) -> Acquired:
        self._books.note_active({path[0].tenant for path in self._paths if path})
        for path in self._paths:
            rest = self._hit_head(path)
            if rest and claim:
                self._claim_rest(path[: len(path) - len(rest)], rest)
        self._count()
        books, lease = self._books, self._lease
        return Acquired(
            lease.lease_id,
            books.dram.arena,
            self._hits,
            self._tickets,
            frozenset(self._waiters),
        )

    def _may_stream(self, load: Load) -> bool:
        """Its first layer is there, and was verified as what is asked for: enough to begin with."""
        is_coming = load.has_begun and not load.done and not load.late
        return is_coming and load.spec in self._streamable

    def _look_after_arriving(self) -> None:
        """Of what was on its way: what has landed, was lost, or begins again in another tier."""
        for key, load in list(self._arriving.items()):
            if load.done or load.late or self._lease not in load.readers:
                del self._arriving[key]
                load.readers.discard(self._lease)
                if load.late or (load.done and not load.succeeded):
                    self._unreadable.add(key)

    def _pin_head(self, path: Path) -> int:
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
        return len(path)

    def _slot(self, spec: SegmentSpec) -> Slot | None:
        slot = self._books.dram.find(spec.key)
        if slot is not None and slot.spec.layout != spec.layout:
            self._books.condemn(slot)
            return None
        return slot

    def _join(self, spec: SegmentSpec) -> Load | None:
        load = self._loads.join(spec, self._lease, spec in self._streamable)
        if load is None:
            self._unreadable.add(spec.key)
        return load

    def _hit_head(self, path: Path) -> Path:
        """What lies behind the hits of a path."""
        num_hits = self._pin_head(path)
        for spec in path[:num_hits]:
            self._hits.setdefault(spec.key, self._hit(spec))
        leaf_first = [spec.key for spec in reversed(path[:num_hits])]
        self._books.touch(leaf_first)
        return path[num_hits:]

    def _claim_rest(self, found: Path, rest: Path) -> None:
        """All are ours from here, unless another has the first. Where one finds no room, those
        after it would never be matched."""
        first = rest[0].key
        if first not in self._tickets and self._books.claims.is_flying(first):
            self._waiters.add(first)
            return
        cached, new = (sum(spec.layout.num_tokens for spec in part) for part in (found, rest))
        cost = self._books.profile.seconds_per_token(cached, new)
        has_room = True
        for spec in rest:
            ticket = self._tickets.get(spec.key)
            if ticket is None:
                ticket = self._tickets[spec.key] = self._ticket(spec, has_room, cost)
            has_room = has_room and (ticket.extent is not None or self._is_elsewhere(spec))

    def _is_elsewhere(self, spec: SegmentSpec) -> bool:
        """There already, or on its way, behind a hole, or another computes it: compute it, but
        nothing is to be kept."""
        books, key = self._books, spec.key
        return books.dram.contains(key) or key in self._arriving or books.claims.is_flying(key)

    def _ticket(self, spec: SegmentSpec, has_room: bool, cost: float) -> Ticket:
        books, ticket_id = self._books, TicketId(self._books.next_id())
        extent = None
        may_claim = has_room and books.claims.may_reserve(self._lease.holder, spec.layout.nbytes)
        if may_claim and not self._is_elsewhere(spec):
            extent = books.reserve(spec)
        if extent is not None:
            ticket = books.claims.open(ticket_id, spec, extent, self._lease, cost)
            ticket.doomed = books.is_being_removed(spec)
        return Ticket(ticket_id, spec, extent)

    def _hit(self, spec: SegmentSpec) -> Hit:
        slot = self._books.dram.find(spec.key)
        if slot is None:
            load = self._arriving[spec.key]
            return Hit(load.spec, load.extent, load.tier, arriving=True)
        self._books.offer(slot)
        return Hit(slot.spec, slot.extent, self._read.get(spec.key, "dram"))

    def _count(self) -> None:
        books = self._books
        found_in = Counter(hit.tier for hit in self._hits.values())
        books.counters.prefetch_used += len(books.ahead.intersection(self._hits))
        books.ahead -= self._hits.keys()
        books.dram_shelf.hits += found_in["dram"]
        for level in books.levels:
            level.shelf.hits += found_in[level.name]
        books.counters.misses += len(self._tickets)
        books.counters.waits += len(self._waiters)
