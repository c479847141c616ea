"""Do the books balance, and are the bytes what they were? Payloads are read without the lock."""

from kvstore.books import Books
from kvstore.checksum import verify_segment
from kvstore.disposal import discard
from kvstore.errors import CorruptSegmentError, TierUnavailableError
from kvstore.loads import Loads
from kvstore.tiers.dram import Slot
from kvstore.types import CheckReport, SegmentSpec
from kvstore.writeback import WriteBehind


class Audit:
    """One `check`. With `repair` what is damaged goes; wrong books stay, and stay reported."""

    def __init__(self, books: Books, loads: Loads, writes: WriteBehind, repair: bool) -> None:
        self._books = books
        self._loads = loads
        self._writes = writes
        self._repair = repair
        self._problems: list[str] = []
        self._segments = self._bytes = self._repaired = 0

    def run(self) -> CheckReport:
        books = self._books
        with books.lock:
            books.require_open()
            self._problems += self._balance()
            slots, specs = books.dram.slots(), books.ssd_shelf.specs()
            for slot in slots:
                slot.borrows += 1
        for slot in slots:
            self._check_slot(slot)
        for spec in specs:
            self._check_file(spec)
        self._check_strays()
        return CheckReport(self._segments, self._bytes, tuple(self._problems), self._repaired)

    def _balance(self) -> list[str]:
        """Tiers against shelves, pins against leases, reservations against tickets and reads."""
        books = self._books
        slots = books.dram.slots()
        problems = books.dram.check() + books.leases.check(books.dram.all_slots())
        problems += books.dram_shelf.check("dram", sum(slot.entry.nbytes for slot in slots))
        reserved = {t.extent for t in books.claims.tickets()} | {
            load.extent for load in self._loads
        }
        if reserved != books.dram.reserved():
            problems.append(
                f"dram: {len(books.dram.reserved())} extents are reserved, "
                f"{len(reserved)} by open tickets and reads"
            )
        if books.ssd:
            entries = books.ssd.keys()
            stored = [e for e in entries if e.key != self._writes.current]
            problems += books.ssd.check()
            problems += books.ssd_shelf.check("ssd", sum(entry.nbytes for entry in stored))
        return problems

    def _check_slot(self, slot: Slot) -> None:
        books = self._books
        problem = None
        try:
            verify_segment(slot.spec, books.dram.view(slot.extent), slot.crcs)
        except CorruptSegmentError as error:
            problem = f"dram: {error}"
        self._count(slot.spec, problem)
        with books.lock:
            slot.borrows -= 1
            if problem and self._repair and slot.published:
                books.withdraw(slot)
                self._repaired += 1
            books.dram.free_if_unused(slot)

    def _check_file(self, spec: SegmentSpec) -> None:
        books = self._books
        assert books.ssd is not None
        problem = None
        try:
            reader = books.ssd.open(spec.key)
            if reader is None:
                self._settle(spec)
                return
            with reader:
                for layer in range(spec.layout.num_layers):
                    reader.layer(layer)
        except (CorruptSegmentError, TierUnavailableError) as error:
            problem = f"ssd: {error}"
        self._count(spec, problem)
        if problem and self._repair:
            with books.lock:
                file = books.detach_file(spec.key)
            if file is not None:
                discard(books, file, damaged=True)
                self._repaired += 1

    def _settle(self, spec: SegmentSpec) -> None:
        """The tier has dropped a file that vanished; one that was evicted is off the shelf too."""
        books = self._books
        assert books.ssd is not None
        with books.lock:
            if spec.key in books.ssd_shelf and not books.ssd.contains(spec.key):
                books.ssd_shelf.remove(spec.key)
                self._repaired += self._repair

    def _check_strays(self) -> None:
        ssd = self._books.ssd
        for path in ssd.strays() if ssd else ():
            self._problems.append(f"ssd: {path} is no segment of this store")
            if ssd and self._repair:
                try:
                    ssd.discard_stray(path)
                    self._repaired += 1
                except TierUnavailableError as error:
                    self._problems.append(f"ssd: {error}")

    def _count(self, spec: SegmentSpec, problem: str | None) -> None:
        self._segments += 1
        self._bytes += spec.layout.nbytes
        if problem:
            self._problems.append(problem)
