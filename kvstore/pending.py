"""The pending window: which keys queued requests will need, in the order in which they asked."""

import time
from collections import Counter, OrderedDict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from itertools import islice

from sortedcontainers import SortedList  # type: ignore[import-untyped]  # it has no types

from kvstore.types import SegmentKey

_MAX_KEYS = 65_536
_TENANT_SHARE = 8
"""One tenant's requests fill an eighth of the window, and one request an eighth of that."""

_EXPIRED_AT_ONCE = 2
"""Requests that each announcement takes out of the window; the rest go by `expire_one`."""


@dataclass(frozen=True, slots=True)
class _Announcement:
    tenant: bytes
    keys: tuple[SegmentKey, ...]
    expires_at: float


class PendingWindow(Container[SegmentKey]):
    """Bounded, in all, for each tenant and for each request: what does not fit is not known, and is
    then evicted like anything else.

    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self, max_keys: int = _MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._requests: OrderedDict[str, _Announcement] = OrderedDict()
        self._expiries = SortedList()  # (deadline, request)
        self._counts: Counter[SegmentKey] = Counter()
        self._of_tenant: Counter[bytes] = Counter()
        self._num_keys = 0
        self._next_use: dict[int, dict[SegmentKey, int]] = {}
        self.num_changes = 0

    def __contains__(self, key: object) -> bool:
        return key in self._counts

    def __len__(self) -> int:
        return self._num_keys

    def announce(
        self, request_id: str, tenant: bytes, keys: Iterable[SegmentKey], deadline_s: float
    ) -> None:
        """Most urgent first; replaces what the request announced before, at the end of the
        order."""
        self.retire(request_id)
        for _ in range(_EXPIRED_AT_ONCE):
            self.expire_one()
        of_tenant = self._max_keys // _TENANT_SHARE
        room = min(
            of_tenant // _TENANT_SHARE,
            of_tenant - self._of_tenant[tenant],
            self._max_keys - self._num_keys,
        )
        if kept := tuple(islice(keys, max(0, room))):
            announced = _Announcement(tenant, kept, time.monotonic() + deadline_s)
            self._requests[request_id] = announced
            self._expiries.add((announced.expires_at, request_id))
            self._counts.update(kept)
            self._count(tenant, len(kept))

    def retire(self, request_id: str) -> None:
        """Idempotent."""
        announcement = self._requests.pop(request_id, None)
        if announcement is None:
            return
        self._expiries.remove((announcement.expires_at, request_id))
        self._count(announcement.tenant, -len(announcement.keys))
        for key in announcement.keys:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]

    def expire_one(self) -> bool:
        """Forget one request whose deadline has passed; whether there may be more."""
        if not self._expiries or self._expiries[0][0] > time.monotonic():
            return False
        self.retire(self._expiries[0][1])
        return True

    def next_use(self, num_requests: int) -> dict[SegmentKey, int]:
        """Of each key that the first so many requests need: the rank of the first that does. Not to
        be changed: it is kept until the window changes."""
        if num_requests not in self._next_use:
            found: dict[SegmentKey, int] = {}
            for rank, keys in enumerate(self.upcoming(num_requests)):
                for key in keys:
                    found.setdefault(key, rank)
            self._next_use[num_requests] = found
        return self._next_use[num_requests]

    def upcoming(self, num_requests: int) -> list[tuple[SegmentKey, ...]]:
        """What the first so many requests need, each in its own order."""
        return [a.keys for a in islice(self._requests.values(), num_requests)]

    def keys(self) -> list[SegmentKey]:
        """In order of need, each once."""
        ordered = (key for a in self._requests.values() for key in a.keys)
        return list(dict.fromkeys(ordered))

    def _count(self, tenant: bytes, num_keys: int) -> None:
        self._num_keys += num_keys
        self._of_tenant[tenant] += num_keys
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]
        self._next_use.clear()
        self.num_changes += 1
