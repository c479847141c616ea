"""How many candidates HyperRAG reranks in the time that the traditional service needs for a few."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actors.engine.rerank import RerankEngine
from tests.bench.pool import Pool, seconds_in_turn

COUNTS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100)


@dataclass(frozen=True, slots=True)
class Budget:
    """Candidates of both arms, and the median seconds of a question's reranking."""

    traditional: int
    ours: int
    traditional_s: float
    ours_s: float


def equal_time(off: RerankEngine, on: RerankEngine, pool: Pool, traditional: int) -> Budget:
    """The largest number of COUNTS at which HyperRAG, warm, is no slower, by the median ratio over
    the pool's questions; both arms take turns. Never fewer than the traditional service's."""
    pool.rerank(on, "into DRAM")
    times: dict[int, tuple[float, float]] = {}

    def fits(ours: int) -> bool:
        theirs_s, ours_s = seconds_in_turn(off, on, pool, traditional, ours)
        times[ours] = (statistics.median(theirs_s), statistics.median(ours_s))
        return statistics.median(o / t for t, o in zip(theirs_s, ours_s, strict=True)) <= 1

    ours = largest((count for count in COUNTS if count >= traditional), fits)
    return Budget(traditional, ours, *times[ours])


def largest(counts: Iterable[int], fits: Callable[[int], bool]) -> int:
    """The last of ascending counts before the first that does not fit; at least the first."""
    found: int | None = None
    for count in counts:
        if not fits(count):
            return count if found is None else found
        found = count
    assert found is not None, "there is nothing to choose from"
    return found
