"""Best fit over granules: which runs of an arena are taken and which are free."""

from bisect import bisect_left, insort
from collections.abc import Iterator
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

    @property
    def num_taken(self) -> int:
        """Taken runs."""
        return len(self._taken)

    def starts(self) -> list[int]:
        """Of all runs: copies of the keys of two dicts, at a few nanoseconds each."""
        return [*self._taken, *self._free]

    def problems_of(self, start: int) -> Iterator[str]:
        """What does not fit the run that starts here: where it ends another starts, and two free
        ones would be one."""
        if (run := self.run_from(start)) is None:
            return
        end = start + run.length
        if self.run_before(end) != run:
            yield f"allocator: the map by end does not have {run}"
        if end != self.num_granules and self.run_from(end) is None:
            yield f"allocator: no run starts at {end}, where {run} ends"
        if run.taken:
            return
        if run.length and end in self._free:
            yield f"allocator: free neighbours at {end} were not joined"
        at = bisect_left(self._by_length, (run.length, start))
        if self._by_length[at : at + 1] != [(run.length, start)]:
            yield f"allocator: the list by length does not have {run}"

    def miscounts(self) -> list[str]:
        """What is wrong with all runs together."""
        problems = []
        if self.num_granules and self.run_from(0) is None:
            problems.append("allocator: no run starts at 0")
        if (free := sum(self._free.values())) != self.num_free:
            problems.append(f"allocator: {free} free, counted {self.num_free}")
        if not len(self._free) == len(self._free_by_end) == len(self._by_length):
            problems.append("allocator: the maps of free runs differ in length")
        if len(self._taken) != len(self._taken_by_end):
            problems.append("allocator: the maps of taken runs differ in length")
        return problems

    def check(self) -> list[str]:
        """Every granule exactly once in a run, no two free neighbours, totals right."""
        problems = self.miscounts()
        if (total := sum(self._taken.values()) + self.num_free) != self.num_granules:
            problems.append(f"allocator: runs of {total} of {self.num_granules} granules")
        return problems + [p for start in self.starts() for p in self.problems_of(start)]

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
