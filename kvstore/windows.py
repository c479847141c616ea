"""Which neighbours go when no hole is large enough: the window of the arena that costs least.

By rank alone, victims lie anywhere, and nearly all have to go before two holes meet. A window is a
run of neighbours, free or taken, that together are long enough. Its cost is that of what it takes
with it: its segments, and all that follows them in their chains, which nobody could match without
them. What may not go ends a window.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from kvstore.allocator import Run
from kvstore.occupants import Occupants
from kvstore.shelf import Shelf
from kvstore.types import SegmentKey

Weigh = Callable[[SegmentKey], int | None]
"""What the eviction of one segment costs, above 0; None: it may not go. Whole numbers, so that
what comes into a sum and goes out of it again leaves nothing behind."""

Seeds = Callable[[], Iterator[SegmentKey]]
"""Begins with the first segment in the order of eviction, as it is now."""

_MAX_SEEDS = 16
_MAX_DEAR_SEEDS = 256
_MAX_VISITS = 4096
_MAX_FAMILY = 128
"""What more segments than that follow stays: the prompt prefix, behind which all is."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A run in reach of a seed; a free one has no key."""

    length: int
    key: SegmentKey | None


@dataclass(frozen=True, slots=True)
class _Window:
    keys: Sequence[SegmentKey]
    cost: int


class WindowSearch:
    """One choice. It looks around the first segments in the order of eviction (`seeds`), around so
    many of them, and at so many neighbours, that a miss takes a bounded time."""

    def __init__(
        self, occupants: Occupants, shelf: Shelf, weigh: Weigh, length: int, dear: int
    ) -> None:
        """`length` in granules. `dear`: of a window of this cost, many more seeds are looked at for
        a cheaper one."""
        self._occupants, self._shelf, self._weigh = occupants, shelf, weigh
        self._length, self._dear = length, dear
        share = length / occupants.allocator.num_granules
        self._visits_left = _MAX_VISITS + int(4 * share * len(shelf))
        self._seeds: list[SegmentKey] = []
        self._costs: dict[SegmentKey, int | None] = {}
        self._families: dict[SegmentKey, Sequence[SegmentKey]] = {}
        self._weights: dict[SegmentKey, int] = {}

    def choosing(self, seeds: Seeds) -> Generator[None, None, list[SegmentKey]]:
        """What goes, each before its parent; empty where no window was found. A step is one seed or
        neighbour. What changes between two steps makes the window worse, or not one that can go:
        the caller looks at each of its segments again."""
        best: _Window | None = None
        num_before = 0
        while (seed := self._next_seed(seeds, num_before)) is not None:
            if self._visits_left <= 0 or (best and num_before >= self._enough(best)):
                break
            num_before += 1
            yield
            if not self._occupants.has(seed):
                continue
            if alone := self._alone(seed):
                if best is None or alone.cost < best.cost:
                    best = alone
                if alone.cost < self._dear:
                    break
                continue
            found = yield from self._around(seed)
            if found and (best is None or found.cost < best.cost):
                best = found
        keys = best.keys if best else ()
        return list(dict.fromkeys(one for key in keys for one in self._families[key]))

    def _next_seed(self, seeds: Seeds, num_before: int) -> SegmentKey | None:
        """The order is looked at once for the first few, and once more where these do not do."""
        if num_before == 0:
            self._seeds = list(islice(seeds(), _MAX_SEEDS))
        elif num_before == len(self._seeds) == _MAX_SEEDS:
            self._seeds += islice(seeds(), _MAX_SEEDS, max(_MAX_SEEDS, _MAX_DEAR_SEEDS))
        return self._seeds[num_before] if num_before < len(self._seeds) else None

    def _enough(self, best: _Window) -> int:
        """How many seeds are looked at once there is this window."""
        return _MAX_SEEDS if best.cost < self._dear else _MAX_DEAR_SEEDS

    def _alone(self, seed: SegmentKey) -> _Window | None:
        """The seed's run and the holes beside it, where they suffice."""
        if self._occupants.length_if_free(seed) < self._length:
            return None
        cost = self._cost(seed)
        return None if cost is None else _Window((seed,), cost)

    def _around(self, seed: SegmentKey) -> Generator[None, None, _Window | None]:
        """The cheapest window that holds the seed."""
        if self._cost(seed) is None:
            return None
        start, length = self._occupants.start_of(seed), self._occupants.length_of(seed)
        before = yield from self._before(start, length)
        behind = yield from self._behind(start + length, length)
        pieces = [*reversed(before), _Piece(length, seed), *behind]
        return (yield from self._slide(pieces, len(before)))

    def _before(self, end: int, length: int) -> Generator[None, None, list[_Piece]]:
        pieces: list[_Piece] = []
        while length < self._length and (run := self._occupants.allocator.run_before(end)):
            if (piece := self._piece(run)) is None:
                break
            pieces.append(piece)
            length, end = length + run.length, run.start
            yield
        return pieces

    def _behind(self, start: int, length: int) -> Generator[None, None, list[_Piece]]:
        pieces: list[_Piece] = []
        while length < self._length and (run := self._occupants.allocator.run_from(start)):
            if (piece := self._piece(run)) is None:
                break
            pieces.append(piece)
            length, start = length + run.length, start + run.length
            yield
        return pieces

    def _piece(self, run: Run) -> _Piece | None:
        self._visits_left -= 1
        if not run.taken:
            return _Piece(run.length, None)
        key = self._occupants.at(run.start)
        return None if key is None or self._cost(key) is None else _Piece(run.length, key)

    def _slide(
        self, pieces: Sequence[_Piece], seed_at: int
    ) -> Generator[None, None, _Window | None]:
        """Of the windows that hold the seed, and no piece more than they need."""
        best: tuple[int, int, int] | None = None
        going, length, stop = _Going(self._weights), 0, 0
        for start in range(seed_at + 1):
            while stop <= seed_at or length < self._length:
                if stop == len(pieces):
                    return self._window(pieces, best)
                going.add(self._going_with(pieces[stop]))
                length, stop = length + pieces[stop].length, stop + 1
                yield
            if best is None or going.cost < best[0]:
                best = going.cost, start, stop
            going.remove(self._going_with(pieces[start]))
            length -= pieces[start].length
            yield
        return self._window(pieces, best)

    def _going_with(self, piece: _Piece) -> Sequence[SegmentKey]:
        return () if piece.key is None else self._families[piece.key]

    def _window(
        self, pieces: Sequence[_Piece], best: tuple[int, int, int] | None
    ) -> _Window | None:
        if best is None:
            return None
        cost, start, stop = best
        return _Window([p.key for p in pieces[start:stop] if p.key is not None], cost)

    def _cost(self, key: SegmentKey) -> int | None:
        """Of the segment and all that follows it; None where not all of that may go."""
        if key not in self._costs:
            self._costs[key] = self._sum(key)
        return self._costs[key]

    def _sum(self, key: SegmentKey) -> int | None:
        family = self._shelf.family(key, _MAX_FAMILY)
        self._visits_left -= _MAX_FAMILY if family is None else len(family)
        if family is None:
            return None
        for one in family:
            if one not in self._weights:
                if (weight := self._weigh(one)) is None:
                    return None
                self._weights[one] = weight
        self._families[key] = family
        return sum(self._weights[one] for one in family)


class _Going:
    """What goes with the pieces of a window while it slides, each once."""

    def __init__(self, weights: Mapping[SegmentKey, int]) -> None:
        self._weights = weights
        self._reasons: dict[SegmentKey, int] = {}
        self.cost = 0

    def add(self, family: Iterable[SegmentKey]) -> None:
        for key in family:
            reasons = self._reasons.get(key, 0)
            self._reasons[key] = reasons + 1
            if not reasons:
                self.cost += self._weights[key]

    def remove(self, family: Iterable[SegmentKey]) -> None:
        for key in family:
            self._reasons[key] -= 1
            if not self._reasons[key]:
                self.cost -= self._weights[key]
