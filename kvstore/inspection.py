"""A look at all of one slow tier: every object, read and verified, on a thread of its own.

Bytes that are wrong are damage, which a repair takes away. A call that failed says nothing about
the bytes: the object stays as it is, and is named as unchecked.

A medium may hang in any call. Who asked waits only as long as the look gets on; then the thread is
left behind, and the tier is left alone until it is back.
"""

import time
from concurrent.futures import CancelledError

from kvstore.books import Books
from kvstore.disposal import discard
from kvstore.errors import AuthenticationError, CorruptSegmentError, TierUnavailableError
from kvstore.executor import DaemonExecutor
from kvstore.levels import Level
from kvstore.types import SegmentSpec


class Inspection:
    """One `check` of one tier. What was found is in the fields once `run` has returned."""

    def __init__(self, books: Books, level: Level, repair: bool) -> None:
        self.level = level
        self.problems: list[str] = []
        self.unchecked: list[str] = []
        """What could not be read, and why."""
        self.segments = self.bytes = self.repaired = 0
        self.is_over = False
        """Of the thread: nothing of it is in the medium any more."""
        self._books = books
        self._repair = repair
        self._left_behind = False
        self._last_step = time.monotonic()

    def run(self, timeout_s: float) -> bool:
        """Whether all of the tier was looked at; False when a step took longer than `timeout_s`.
        Raises StoreUnavailableError once the store is closed."""
        books = self._books
        pool = DaemonExecutor(1, f"kvstore-check-{self.level.name}")
        looking = pool.submit(self._look)
        pool.shutdown(wait=False)
        with books.lock:
            try:
                while not self.is_over:
                    books.require_open()
                    left = self._last_step + timeout_s - time.monotonic()
                    if left <= 0:
                        return False
                    books.changed.wait(left)
            finally:
                self._left_behind = not self.is_over
        looking.result()
        return True

    def _look(self) -> None:
        level = self.level
        try:
            self.problems += level.tier.check(self._step)
            with self._books.lock:
                entries = level.shelf.entries()
            for entry in entries:
                self._check_object(entry.spec)
            self._check_strays()
        finally:
            with self._books.lock:
                self.is_over = True
                self._books.changed.notify_all()

    def _step(self) -> None:
        """Before each call to the medium, and before anything is changed. Raises CancelledError
        when nobody waits any more."""
        self._last_step = time.monotonic()
        self._books.require_open()
        if self._left_behind:
            raise CancelledError

    def _check_object(self, spec: SegmentSpec) -> None:
        books, level = self._books, self.level
        damage: CorruptSegmentError | None = None
        self._step()
        try:
            reader = level.tier.open(spec.key)
            if reader is None:  # evicted meanwhile, or it vanished
                with books.lock:
                    self.repaired += level.forget(spec.key) and self._repair
                return
            with reader:
                for layer in range(spec.layout.num_layers):
                    self._step()
                    reader.layer(layer)
        except TierUnavailableError as error:
            self.unchecked.append(f"{level.name}: cannot be read: {error}")
            return
        except CorruptSegmentError as error:
            damage = error
        self._step()
        self._count(spec, damage)
        if damage and self._repair and not isinstance(damage, AuthenticationError):
            with books.lock:
                stored = level.detach(spec.key)
            if stored is not None:
                discard(books, level, stored, damaged=True)
                self.repaired += 1

    def _check_strays(self) -> None:
        level = self.level
        try:
            for name in level.tier.purge.strays(self._step) if level.tier.complete else ():
                self._step()
                self.problems.append(f"{level.name}: {name} is no segment of this store")
                if self._repair:
                    self.repaired += level.tier.purge.stray(name)
        except TierUnavailableError as error:
            self.unchecked.append(f"{level.name}: cannot be read: {error}")

    def _count(self, spec: SegmentSpec, damage: CorruptSegmentError | None) -> None:
        self.segments += 1
        self.bytes += spec.layout.nbytes
        if damage:
            self.problems.append(f"{self.level.name}: {damage}")
