"""What leaves the arena when a segment needs room there.

Least dear is what its policy says of it; much dearer is what still waits to be written to a slow
tier, dearer yet what queued requests need (most of all what they need first), and dearest what
tenants have within their share. What somebody holds stays.
"""

from collections.abc import Container, Generator, Iterator, Sequence
from typing import Protocol

from kvstore.arena import GRANULE
from kvstore.occupants import Occupants
from kvstore.pending import PendingWindow
from kvstore.policies import NextUse
from kvstore.shares import Shares, Tenants
from kvstore.shelf import Shelf
from kvstore.turns import at_once
from kvstore.types import SegmentKey
from kvstore.windows import Weigh, WindowSearch

_UNIT = 2**40
_UNWRITTEN = 2**100
_NEEDED = 2**140
_GUARANTEED = 2**200
"""What such a segment costs beside all that its policy can say, for each granule."""


class WriteQueue(Protocol):
    """Of one slow tier."""

    @property
    def unwritten(self) -> Container[SegmentKey]: ...


class Eviction:
    """Changes nothing: the caller evicts. Not thread-safe: the metadata lock guards it."""

    def __init__(
        self,
        occupants: Occupants,
        shelf: Shelf,
        shares: Shares,
        window: PendingWindow,
        lookahead_requests: int,
        queues: Sequence[WriteQueue] = (),
    ) -> None:
        self._occupants, self._shelf, self._shares = occupants, shelf, shares
        self._window, self._lookahead_requests = window, lookahead_requests
        self._queues = queues
        self._in_vain: dict[tuple[bytes, int], int] = {}
        self._in_vain_at: tuple[int, ...] = ()

    def victims(self, length: int, tenant: bytes, sooner: int = -1) -> list[SegmentKey]:
        """`choosing`, at once."""
        return at_once(self.choosing(length, tenant, sooner))

    def choosing(
        self, length: int, tenant: bytes, sooner: int = -1
    ) -> Generator[None, None, list[SegmentKey]]:
        """What to evict for a tenant's run of `length` granules; none where that cannot be. What
        queued requests up to the rank `sooner` need stays. In steps: each of them `may_go` or not
        when it is its turn."""
        if self._was_in_vain(length, tenant, sooner):
            return []
        needed = self._window.next_use(self._lookahead_requests)
        turns = self._shares.turns(tenant, length * GRANULE)
        order = self._shelf.policy.order(needed, turns[0])
        seed = next(order, None)
        if seed is None and len(turns) > 1:
            turns = turns[1:]
            seed = next(self._shelf.policy.order(needed, turns[0]), None)
        if seed is None:
            found = []
        elif self._is_enough(seed, length, needed):
            found = [seed]
        else:
            found = yield from self._search(length, needed, sooner, turns)
        if not found:
            self._in_vain[tenant, sooner] = length
        return found

    def may_go(self, key: SegmentKey) -> bool:
        """Whether it is still there, nobody holds it and nothing follows it."""
        is_there = self._occupants.has(key) and not self._shelf.has_children(key)
        return is_there and not self._shelf.policy.is_held(key.digest)

    def _is_enough(self, seed: SegmentKey, length: int, needed: NextUse) -> bool:
        """The first in the order is a leaf; nothing is cheaper when it alone makes the room."""
        long_enough = self._occupants.length_if_free(seed) >= length
        return long_enough and seed not in needed and not self._is_unwritten(seed)

    def _search(
        self, length: int, needed: NextUse, sooner: int, turns: Sequence[Tenants]
    ) -> Generator[None, None, list[SegmentKey]]:
        weigh = self._weigher(needed, sooner, turns)
        search = WindowSearch(self._occupants, self._shelf, weigh, length, _UNWRITTEN)
        return (yield from search.choosing(lambda: self._seeds(needed, turns)))

    def _seeds(self, needed: NextUse, turns: Sequence[Tenants]) -> Iterator[SegmentKey]:
        first, *rest = turns
        yield from self._shelf.policy.order(needed, first)
        if rest:
            yield from self._shelf.policy.order(needed, lambda tenant: not first(tenant))

    def _weigher(self, needed: NextUse, sooner: int, turns: Sequence[Tenants]) -> Weigh:
        """Other tenants than those of the only turn lose nothing."""
        shelf, policy, occupants = self._shelf, self._shelf.policy, self._occupants
        first, is_last = turns[0], len(turns) == 1

        def weigh(key: SegmentKey) -> int | None:
            use, tenant = needed.get(key), shelf.tenant(key)
            may_go = first(tenant) or not is_last
            if policy.is_held(key.digest) or not may_go or (use is not None and use <= sooner):
                return None
            cost = int(policy.loss(key) * _UNIT) + 1
            if use is not None and policy.looks_ahead:
                cost += _NEEDED // (1 + use)
            if self._is_unwritten(key):
                cost += _UNWRITTEN
            if not first(tenant):
                cost += _GUARANTEED
            return cost * occupants.length_of(key)

        return weigh

    def _is_unwritten(self, key: SegmentKey) -> bool:
        return any(key in queue.unwritten for queue in self._queues)

    def _was_in_vain(self, length: int, tenant: bytes, sooner: int) -> bool:
        """Whether no less was looked for in vain, and nothing has come free since."""
        free = self._occupants.allocator.num_free
        now = (free, self._shelf.policy.num_shown, self._window.num_changes)
        if now != self._in_vain_at:
            self._in_vain, self._in_vain_at = {}, now
        shortest = self._in_vain.get((tenant, sooner))
        return shortest is not None and shortest <= length
