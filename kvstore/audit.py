"""Do the books balance, and are the bytes what they were? Payloads are read without the lock."""

from kvstore.balance import imbalance
from kvstore.books import Books
from kvstore.inspection import Inspection
from kvstore.levels import Level
from kvstore.loads import Loads
from kvstore.scrub import damage_of
from kvstore.tiers.dram import Slot
from kvstore.types import CheckReport


class Audit:
    """Thread-safe. While a thread that a check left behind hangs in a slow tier, no other is sent
    there."""

    def __init__(self, books: Books, loads: Loads, read_timeout_s: float) -> None:
        self._books = books
        self._loads = loads
        self._read_timeout_s = read_timeout_s
        self._hanging: dict[Level, Inspection] = {}

    def run(self, repair: bool) -> CheckReport:
        """With `repair` what is damaged goes; wrong books stay, and stay reported. Raises
        StoreUnavailableError once the store is closed."""
        check = _Check(self._books, repair)
        check.problems += imbalance(self._books, self._loads)
        with self._books.lock:
            slots = self._books.dram.slots()
        for slot in slots:
            check.look_at(slot)
        for level in self._books.levels:
            self._inspect(level, check)
        return check.report()

    def _inspect(self, level: Level, check: "_Check") -> None:
        hanging = self._hanging.get(level)
        if level.distrust:
            check.unchecked.append(f"{level.name}: not looked at: {level.distrust}")
            return
        if level.slow or (hanging is not None and not hanging.is_over):
            check.unchecked.append(f"{level.name}: not looked at: a call to it hangs")
            return
        if level.recovering:
            check.unchecked.append(f"{level.name}: still being listed, looked at as far as known")
        inspection = Inspection(self._books, level, check.repair)
        if not inspection.run(self._read_timeout_s):
            self._hanging[level] = inspection
            text = f"{level.name}: left alone: it gave nothing for {self._read_timeout_s:g} s"
            check.unchecked.append(text)
        check.add(inspection)


class _Check:
    """What one of them has found."""

    def __init__(self, books: Books, repair: bool) -> None:
        self.repair = repair
        self.problems: list[str] = []
        self.unchecked: list[str] = []
        self._books = books
        self._segments = self._bytes = self._repaired = 0

    def report(self) -> CheckReport:
        counts = self._segments, self._bytes, tuple(self.problems), self._repaired
        return CheckReport(*counts, tuple(self.unchecked))

    def add(self, inspection: Inspection) -> None:
        self.problems += inspection.problems
        self.unchecked += inspection.unchecked
        self._segments += inspection.segments
        self._bytes += inspection.bytes
        self._repaired += inspection.repaired

    def look_at(self, slot: Slot) -> None:
        """Borrowed for as long as it is read: the others stay free to be evicted."""
        books = self._books
        with books.lock:
            books.require_open()
            if not slot.published:
                return
            books.dram.borrow(slot)
        damage = None
        try:
            damage = damage_of(books, slot)
            self._segments += 1
            self._bytes += slot.spec.layout.nbytes
        finally:
            with books.lock:
                if damage and self.repair and slot.published:
                    books.withdraw(slot)
                    self._repaired += 1
                books.dram.give_back(slot)
        if damage:
            self.problems.append(f"dram: {damage}")
