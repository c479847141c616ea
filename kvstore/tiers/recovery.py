"""What a medium has from before: listed, then told apart by header or by name."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence

from kvstore.compression import Codec
from kvstore.errors import CorruptSegmentError, OtherVersionError
from kvstore.executor import DaemonExecutor
from kvstore.tiers.ledger import Ledger
from kvstore.tiers.medium import Listed, Medium
from kvstore.tiers.segment_object import Stored, identify
from kvstore.tiers.sharing import Sharing, Survey, survey

logger = logging.getLogger(__name__)

LastUse = Callable[[Listed], tuple[int, float]]
"""The latest is the largest."""

_HEADERS_AT_ONCE = 64
_THREADS = 2


class Recovery:
    """Thread-safe. What it finds is counted by the ledger, and adopted by whoever asked."""

    def __init__(
        self, medium: Medium, ledger: Ledger, max_bytes: int, codec: Codec, sharing: Sharing
    ) -> None:
        self._medium, self._ledger = medium, ledger
        self._max_bytes, self._codec, self._sharing = max_bytes, codec, sharing
        self.stopped = False
        """Set when the store closes: a listing under way ends."""
        self.last_use: LastUse = _by_medium
        """Of what a medium of our own lists."""

    def find_all(self) -> Iterator[Stored]:
        """Most recently used first: all that a medium of our own has, or what this store wrote to
        a shared one and a part of the rest. Raises OSError before the first of them, when all is
        counted."""
        return self._all() if self._medium.exclusive else self._survey()

    def _all(self) -> Iterator[Stored]:
        listed = sorted(self._medium.list(), key=self.last_use, reverse=True)
        self._ledger.listed({it.name: it.nbytes for it in listed})
        starts = range(0, len(listed), _HEADERS_AT_ONCE)
        return self._read_headers([listed[i : i + _HEADERS_AT_ONCE] for i in starts])

    def _survey(self) -> Iterator[Stored]:
        seen = Survey(self._sharing, self._max_bytes, self._codec)
        survey(self._medium, seen, lambda: self.stopped)
        self._ledger.num_refused += seen.num_refused
        kept = [] if self.stopped else seen.kept()
        self._ledger.listed({stored.name: stored.charged_bytes for stored in kept})
        return iter(kept)

    def _read_headers(self, batches: Sequence[Sequence[Listed]]) -> Generator[Stored]:
        pool = DaemonExecutor(_THREADS, f"kvstore-recover-{self._medium.tier}")
        try:
            for found in pool.map(self._read_all, batches):
                yield from found
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _read_all(self, batch: Sequence[Listed]) -> list[Stored]:
        found = []
        for listed in batch:
            try:
                stored = self.read(listed) if self._ledger.is_unread(listed.name) else None
            except OSError as error:  # it may be sound: left alone, and counted, until a restart
                logger.warning("%s: %s cannot be read: %s", self._medium.tier, listed.name, error)
                continue
            if stored is not None:
                found.append(stored)
        return found

    def read(self, listed: Listed) -> Stored | None:
        """None for one that is gone, and for one in a codec that does not count here, which goes
        from a medium of our own; one that is damaged is set aside now, one of another version
        deleted. Raises OSError."""
        try:
            stored, codec = identify(self._medium, listed, self._sharing.owns)
            if self._codec.accepts(codec):
                return stored
            if self._medium.exclusive:  # an earlier configuration wrote it
                self._medium.delete(listed.name)
            self._ledger.refuse(listed.name)
            return None
        except FileNotFoundError:
            pass
        except OtherVersionError:
            self._medium.delete(listed.name)
        except CorruptSegmentError as error:
            if self._ledger.is_stored(listed.name):  # a reader, who found it sound, adopted it
                return None
            logger.warning("%s: set aside: %s", self._medium.tier, error)
            self._medium.set_aside(listed.name)
        self._ledger.forget(listed.name)
        return None


def _by_medium(listed: Listed) -> tuple[int, float]:
    return 0, listed.last_use
