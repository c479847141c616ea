"""The pending window: which keys queued requests will need, in the order in which they asked."""

import time
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import islice

from kvstore.types import SegmentKey


@dataclass(frozen=True, slots=True)
class _Announcement:
    keys: tuple[SegmentKey, ...]
    expires_at: float


class PendingWindow(Container[SegmentKey]):
    """Bounded: what does not fit is not known, and is then evicted like anything else.

    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self, max_keys: int = 65536) -> None:
        self._max_keys = max_keys
        self._requests: OrderedDict[str, _Announcement] = OrderedDict()
        self._counts: Counter[SegmentKey] = Counter()
        self._num_keys = 0

    def __contains__(self, key: object) -> bool:
        return key in self._counts

    def __len__(self) -> int:
        return self._num_keys

    def announce(self, request_id: str, keys: Iterable[SegmentKey], deadline_s: float) -> None:
        """Most urgent first; replaces what the request announced before, at the end of the
        order."""
        self.retire(request_id)
        self.expire()
        kept = tuple(keys)[: self._max_keys - self._num_keys]
        if kept:
            self._requests[request_id] = _Announcement(kept, time.monotonic() + deadline_s)
            self._counts.update(kept)
            self._num_keys += len(kept)

    def retire(self, request_id: str) -> None:
        """Idempotent."""
        announcement = self._requests.pop(request_id, None)
        if announcement is None:
            return
        self._num_keys -= len(announcement.keys)
        for key in announcement.keys:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def expire(self) -> None:
        """Forget requests whose deadline has passed."""
        for request_id in self.ended():
            self.retire(request_id)

    def ended(self) -> list[str]:
        """Requests whose deadline has passed."""
        now = time.monotonic()
        return [r for r, a in self._requests.items() if a.expires_at <= now]

    def next_use(self, num_requests: int) -> dict[SegmentKey, int]:
        """Of each key that the first so many requests need: the rank of the first that does."""
        found: dict[SegmentKey, int] = {}
        for rank, keys in enumerate(self.upcoming(num_requests)):
            for key in keys:
                found.setdefault(key, rank)
        return found

    def upcoming(self, num_requests: int) -> list[tuple[SegmentKey, ...]]:
        """What the first so many requests need, each in its own order."""
        return [a.keys for a in islice(self._requests.values(), num_requests)]

    def keys(self) -> list[SegmentKey]:
        """In order of need, each once."""
        ordered = (key for a in self._requests.values() for key in a.keys)
        return list(dict.fromkeys(ordered))
