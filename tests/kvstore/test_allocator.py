import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.allocator import Allocator


@given(st.lists(st.integers(min_value=-20, max_value=12)))
def test_books_balance_after_any_sequence_of_steps(steps: list[int]) -> None:
    """Positive: take a run of that length; else: give back the n-th oldest."""
    allocator = Allocator(40)
    taken: dict[int, int] = {}
    for step in steps:
        if step > 0 and allocator.can_allocate(step):
            start = allocator.allocate(step)
            assert_no_overlap(start, step, taken)
            taken[start] = step
        elif step <= 0 and taken:
            start = list(taken)[-step % len(taken)]
            del taken[start]
            allocator.free(start)
        assert allocator.check() == []
        assert allocator.taken() == taken
        assert allocator.num_free == 40 - sum(taken.values())


def assert_no_overlap(start: int, length: int, taken: dict[int, int]) -> None:
    new = set(range(start, start + length))
    assert not any(new & set(range(s, s + n)) for s, n in taken.items())


def test_the_smallest_hole_that_fits_is_taken() -> None:
    allocator = Allocator(20)
    holes = [allocator.allocate(n) for n in (6, 1, 3, 1)]
    allocator.free(holes[0])
    allocator.free(holes[2])
    assert allocator.allocate(3) == holes[2]


def test_freed_neighbours_become_one_run() -> None:
    allocator = Allocator(9)
    a, b, c = (allocator.allocate(3) for _ in range(3))
    for start in (a, c, b):
        allocator.free(start)
    assert allocator.allocate(9) == 0


def test_check_reports_a_lost_run() -> None:
    allocator = Allocator(10)
    start = allocator.allocate(4)
    allocator._from[start] = 0
    assert allocator.check()


def test_a_run_cannot_be_freed_twice() -> None:
    allocator = Allocator(10)
    start = allocator.allocate(4)
    allocator.free(start)
    with pytest.raises(AssertionError, match="does not start a taken run"):
        allocator.free(start)
