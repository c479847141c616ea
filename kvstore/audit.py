"""Do the books balance, and are the bytes what they were? Payloads are read without the lock."""

from kvstore.balance import imbalance
from kvstore.books import Books
from kvstore.disposal import discard
from kvstore.errors import AuthenticationError, CorruptSegmentError, TierUnavailableError
from kvstore.levels import Level
from kvstore.loads import Loads
from kvstore.scrub import damage_of
from kvstore.tiers.dram import Slot
from kvstore.types import CheckReport, SegmentSpec


class Audit:
    """One `check`. With `repair` what is damaged goes; wrong books stay, and stay reported."""

    def __init__(self, books: Books, loads: Loads, repair: bool) -> None:
        self._books = books
        self._loads = loads
        self._repair = repair
        self._problems: list[str] = []
        self._segments = self._bytes = self._repaired = 0

    def run(self) -> CheckReport:
        books = self._books
        self._problems += imbalance(books, self._loads)
        slots = books.dram.slots()
        stored = [(level, entry.spec) for level in books.levels for entry in level.shelf.entries()]
        for level in books.levels:
            self._problems += level.tier.check()
        for slot in slots:
            self._check_slot(slot)
        for level, spec in stored:
            self._check_object(level, spec)
        for level in books.levels:
            self._check_strays(level)
        return CheckReport(self._segments, self._bytes, tuple(self._problems), self._repaired)

    def _check_slot(self, slot: Slot) -> None:
        """Borrowed for as long as it is read: the others stay free to be evicted."""
        books = self._books
        with books.lock:
            books.require_open()
            if not slot.published:
                return
            books.dram.borrow(slot)
        problem = None
        try:
            damage = damage_of(books, slot)
            problem = f"dram: {damage}" if damage else None
            self._count(slot.spec, problem)
        finally:
            with books.lock:
                if problem and self._repair and slot.published:
                    books.withdraw(slot)
                    self._repaired += 1
                books.dram.give_back(slot)

    def _check_object(self, level: Level, spec: SegmentSpec) -> None:
        books = self._books
        problem, is_damage = None, False
        try:
            reader = level.tier.open(spec.key)
            if reader is None:  # evicted meanwhile, or it vanished
                with books.lock:
                    self._repaired += level.forget(spec.key) and self._repair
                return
            with reader:
                for layer in range(spec.layout.num_layers):
                    reader.layer(layer)
        except (CorruptSegmentError, TierUnavailableError) as error:
            problem = f"{level.name}: {error}"
            is_damage = not isinstance(error, AuthenticationError)
        self._count(spec, problem)
        if is_damage and self._repair:
            with books.lock:
                stored = level.detach(spec.key)
            if stored is not None:
                discard(books, level, stored, damaged=True)
                self._repaired += 1

    def _check_strays(self, level: Level) -> None:
        try:
            for name in level.tier.purge.strays() if level.tier.complete else ():
                self._problems.append(f"{level.name}: {name} is no segment of this store")
                if self._repair:
                    self._repaired += level.tier.purge.stray(name)
        except TierUnavailableError as error:
            self._problems.append(str(error))

    def _count(self, spec: SegmentSpec, problem: str | None) -> None:
        self._segments += 1
        self._bytes += spec.layout.nbytes
        if problem:
            self._problems.append(problem)
