"""Best fit over granules: which runs of an arena are taken and which are free.

Two tables have an entry for each granule, as boundary tags: where a run starts, and where it ends,
is its length. They never grow, whatever number of runs there is, and their pages are memory once
they are written to.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LOOK = 4096
"""Granules in which the next run is looked for in one step."""


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
        self._table: NDArray[np.int64] = np.zeros(num_granules + 1, np.int64)
        self._from = self._table.data  # gives one number faster
        """The length of the run that starts at a granule, negative for a free one; or 0."""
        self._until = np.zeros(num_granules + 1, np.int64).data
        """The same of the run that ends before a granule."""
        self._by_length: list[tuple[int, int]] = []  # of free runs, sorted (length, start)
        self.num_free = 0
        self.num_taken = 0
        """Taken runs."""
        if num_granules:
            self._add_free(0, num_granules)

    def can_allocate(self, length: int) -> bool:
        return bool(self._by_length) and self._by_length[-1][0] >= length

    def allocate(self, length: int) -> int:
        """Start of a run of `length`; asserts that `can_allocate` was asked."""
        assert length > 0, f"a run of {length} granules"
        at = bisect_left(self._by_length, (length, 0))
        assert at < len(self._by_length), f"no free run of {length} of {self.num_free} granules"
        found, start = self._by_length[at]
        self._take_free(start, found)
        if found > length:
            self._add_free(start + length, found - length)
        self._mark(start, length, length)
        self.num_taken += 1
        return start

    def free(self, start: int) -> None:
        """Give back the run that starts here and join it with its free neighbours."""
        length = self._from[start]
        assert length > 0, f"granule {start} does not start a taken run"
        self._mark(start, length, 0)
        self.num_taken -= 1
        if (behind := -self._from[start + length]) > 0:
            self._take_free(start + length, behind)
            length += behind
        if (before := -self._until[start]) > 0:
            start -= before
            self._take_free(start, before)
            length += before
        self._add_free(start, length)

    def length_of(self, start: int) -> int | None:
        """Length of the taken run that starts here; None when none does."""
        return length if (length := self._from[start]) > 0 else None

    def length_if_free(self, start: int) -> int:
        """Of the hole that there would be without the taken run that starts here."""
        length = self._from[start]
        return length + max(0, -self._from[start + length]) + max(0, -self._until[start])

    def run_from(self, start: int) -> Run | None:
        """The run that starts here; None at the end, or within a run."""
        length = self._from[start]
        return Run(start, abs(length), length > 0) if length else None

    def run_before(self, end: int) -> Run | None:
        """The run that ends here; None at the beginning, or within a run."""
        length = self._until[end]
        return Run(end - abs(length), abs(length), length > 0) if length else None

    def taken(self) -> dict[int, int]:
        """Lengths of the taken runs, by their starts."""
        return {start: self._from[start] for start in self.starts() if self._from[start] > 0}

    def starts(self) -> Iterator[int]:
        """Of all runs. Others may come and go between two steps: some of them start no run then."""
        at = 0
        while at < self.num_granules:
            yield at
            at += abs(self._from[at]) or self._until_next(at)

    def problems_of(self, start: int) -> Iterator[str]:
        """What does not fit the run that starts here: where it ends another starts, and two free
        ones would be one."""
        if (run := self.run_from(start)) is None:
            return
        end = start + run.length
        if self.run_before(end) != run:
            yield f"allocator: the table by end does not have {run}"
        following = self.run_from(end)
        if end != self.num_granules and following is None:
            yield f"allocator: no run starts at {end}, where {run} ends"
        if run.taken:
            return
        if following is not None and not following.taken:
            yield f"allocator: free neighbours at {end} were not joined"
        at = bisect_left(self._by_length, (run.length, start))
        if self._by_length[at : at + 1] != [(run.length, start)]:
            yield f"allocator: the list by length does not have {run}"

    def miscounts(self) -> list[str]:
        """What is wrong with all runs together."""
        problems = []
        if self.num_granules and self.run_from(0) is None:
            problems.append("allocator: no run starts at 0")
        if (free := sum(length for length, _ in self._by_length)) != self.num_free:
            problems.append(f"allocator: {free} free, counted {self.num_free}")
        return problems

    def check(self) -> list[str]:
        """Every granule exactly once in a run, no two free neighbours, totals right."""
        problems, taken = self.miscounts(), self.taken()
        if (total := sum(taken.values()) + self.num_free) != self.num_granules:
            problems.append(f"allocator: runs of {total} of {self.num_granules} granules")
        if len(taken) != self.num_taken:
            problems.append(f"allocator: {len(taken)} taken runs, counted {self.num_taken}")
        return problems + [p for start in self.starts() for p in self.problems_of(start)]

    def _until_next(self, at: int) -> int:
        """Granules from here to the next start of a run, as far as one looks."""
        found = np.flatnonzero(self._table[at : at + _LOOK])
        return int(found[0]) if len(found) else _LOOK

    def _mark(self, start: int, length: int, tag: int) -> None:
        self._from[start] = self._until[start + length] = tag

    def _take_free(self, start: int, length: int) -> None:
        self._mark(start, length, 0)
        del self._by_length[bisect_left(self._by_length, (length, start))]
        self.num_free -= length

    def _add_free(self, start: int, length: int) -> None:
        self._mark(start, length, -length)
        insort(self._by_length, (length, start))
        self.num_free += length
