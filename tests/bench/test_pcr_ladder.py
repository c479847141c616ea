"""What the ladder is measured with: links that take their time, and a load that is as said."""

import threading
import time

import pytest

from tests.actors.engine.generating import request
from tests.bench.pcr_ladder.links import Link
from tests.bench.pcr_ladder.work import Work


def test_a_link_carries_one_thing_after_the_other() -> None:
    link, start = Link(bytes_per_s=1000), time.monotonic()
    both = [threading.Thread(target=link.carry, args=(100,)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert time.monotonic() - start >= 0.2
    link.carry(0)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("num", [1, 16, 120])
def test_as_many_arrive_in_a_unit_of_time_as_it_says(num: int) -> None:
    arrivals = Work([], [request(0)] * num).arrivals
    assert len(arrivals) == num and arrivals == sorted(arrivals)
    assert 0 <= arrivals[0] <= arrivals[-1] <= num
    gaps = [b - a for a, b in zip([0.0, *arrivals], arrivals, strict=False)]
    assert num < 16 or max(gaps) > 2, "and not one after the other, as a clock would have it"
