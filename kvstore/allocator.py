"""Best fit over granules: which runs of an arena are taken and which are free."""

from bisect import bisect_left, insort
from typing import NamedTuple


class Run(NamedTuple):
    """Granules [start, start + length)."""

    start: int
    length: int
    taken: bool


class Allocator:
    """Half-open runs [start, start + length) of granules; every granule is in one run, free or
    taken.

    Best fit keeps long runs whole, which matters because segments differ in length. Free neighbours
    are joined at once. Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self, num_granules: int) -> None:
        self.num_granules = num_granules
        self._taken: dict[int, int] = {}  # start -> length
        self._taken_by_end: dict[int, int] = {}  # end -> start
        self._free: dict[int, int] = {0: num_granules}
        self._free_by_end: dict[int, int] = {num_granules: 0}  # end -> start
        self._by_length: list[tuple[int, int]] = [(num_granules, 0)]  # sorted (length, start)
        self.num_free = num_granules

    def can_allocate(self, length: int) -> bool:
        return bool(self._by_length) and self._by_length[-1][0] >= length

    def allocate(self, length: int) -> int:
        """Start of a run of `length`; asserts that `can_allocate` was asked."""
        assert length > 0, f"a run of {length} granules"
        at = bisect_left(self._by_length, (length, 0))
        assert at < len(self._by_length), f"no free run of {length} of {self.num_free} granules"
        found, start = self._by_length[at]
        self._take_free(start)
        if found > length:
            self._add_free(start + length, found - length)
        self._taken[start] = length
        self._taken_by_end[start + length] = start
        return start

    def free(self, start: int) -> None:
        """Give back the run that starts here and join it with its free neighbours."""
        assert start in self._taken, f"granule {start} does not start a taken run"
        length = self._taken.pop(start)
        del self._taken_by_end[start + length]
        if (end := start + length) in self._free:
            length += self._take_free(end)
        if start in self._free_by_end:
            start = self._free_by_end[start]
            length += self._take_free(start)
        self._add_free(start, length)

    def length_of(self, start: int) -> int | None:
        """Length of the taken run that starts here; None when none does."""
        return self._taken.get(start)

    def length_if_free(self, start: int) -> int:
        """Of the hole that there would be without the taken run that starts here."""
        end = start + self._taken[start]
        return end + self._free.get(end, 0) - self._free_by_end.get(start, start)

    def run_from(self, start: int) -> Run | None:
        """The run that starts here; None at the end, or within a run."""
        if (length := self._taken.get(start)) is not None:
            return Run(start, length, True)
        return None if (free := self._free.get(start)) is None else Run(start, free, False)

    def run_before(self, end: int) -> Run | None:
        """The run that ends here; None at the beginning, or within a run."""
        if (start := self._taken_by_end.get(end)) is not None:
            return Run(start, end - start, True)
        start = self._free_by_end.get(end)
        return None if start is None else Run(start, end - start, False)

    def taken(self) -> dict[int, int]:
        return dict(self._taken)

    def copy(self) -> "Allocator":
        """As it is now. Copies of dicts and a list, at a few nanoseconds an item."""
        twin = Allocator(0)
        twin.num_granules, twin.num_free = self.num_granules, self.num_free
        twin._taken, twin._taken_by_end = dict(self._taken), dict(self._taken_by_end)
        twin._free, twin._free_by_end = dict(self._free), dict(self._free_by_end)
        twin._by_length = list(self._by_length)
        return twin

    def check(self) -> list[str]:
        """Every granule exactly once in a run, no two free neighbours, totals right."""
        problems = []
        runs = [(s, n, "taken") for s, n in self._taken.items()]
        runs += [(s, n, "free") for s, n in self._free.items()]
        at, before = 0, ""
        for start, length, kind in sorted(runs):
            if start != at:
                problems.append(f"allocator: a run starts at {start}, the one before ends at {at}")
            if kind == before == "free":
                problems.append(f"allocator: free neighbours at {start} were not joined")
            at, before = start + length, kind
        if at != self.num_granules:
            problems.append(f"allocator: runs end at {at} of {self.num_granules} granules")
        if sorted((n, s) for s, n in self._free.items()) != self._by_length:
            problems.append("allocator: the list by length is not the free runs")
        if {s + n: s for s, n in self._taken.items()} != self._taken_by_end:
            problems.append("allocator: the map by end is not the taken runs")
        if {s + n: s for s, n in self._free.items()} != self._free_by_end:
            problems.append("allocator: the map by end is not the free runs")
        if sum(self._free.values()) != self.num_free:
            problems.append(f"allocator: {sum(self._free.values())} free, counted {self.num_free}")
        return problems

    def _take_free(self, start: int) -> int:
        length = self._free.pop(start)
        del self._free_by_end[start + length]
        del self._by_length[bisect_left(self._by_length, (length, start))]
        self.num_free -= length
        return length

    def _add_free(self, start: int, length: int) -> None:
        self._free[start] = length
        self._free_by_end[start + length] = start
        insort(self._by_length, (length, start))
        self.num_free += length
