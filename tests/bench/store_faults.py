"""Damaged files, power cuts and `kill -9`: nothing wrong is read, nothing acknowledged is lost."""

import logging
import multiprocessing
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from tests.bench.harness import Options, Result, tracked
from tests.kvstore.crash.kills import kill_often
from tests.kvstore.crash.lives import Verdict, cut_lives
from tests.kvstore.crash.spoiling import KIND_NAMES, Spoiled, spoil_closed, spoil_open

T = TypeVar("T")
Job = Callable[[int, int, Path], T]
"""Given how many, a seed and a folder of its own."""

PROCESSES = 2
MEMORY = "/dev/shm"


@dataclass(frozen=True, slots=True)
class Counts:
    damages_open: int = 980_000
    """Under an open tier, on a memory file system."""
    damages_closed: int = 20_000
    """Between two lives of a tier, on a disk."""
    states: int = 10_000
    kills: int = 100


QUICK = Counts(19_000, 1_000, 300, 5)


def run(options: Options) -> Result:
    counts = QUICK if options.quick else Counts()
    seeds = random.Random(options.seed)
    # Fresh interpreters: they load neither torch nor what the benches need besides.
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        spread = partial(_spread, pool, seeds)
        spoiled_open = sum(spread(spoil_open, counts.damages_open, 10_000, MEMORY), Spoiled())
        spoiled_closed = sum(spread(spoil_closed, counts.damages_closed, 1_000), Spoiled())
        cuts = sum(spread(cut_lives, counts.states, 200, MEMORY), Verdict())
    with TemporaryDirectory() as folder:
        kills = kill_often(counts.kills, seeds.randrange(2**32), Path(folder))
    spoiled = spoiled_open + spoiled_closed
    return Result(
        config=asdict(counts) | {"seed": options.seed, "processes": PROCESSES},
        figures={
            "damages": spoiled.damages.total(),
            "damages_undetected": spoiled.undetected.total(),
            "crash_states": cuts.states,
            "real_kills": kills.states,
            "acknowledged_lost": cuts.lost + kills.lost,
            "partial_visible": cuts.partial + kills.partial,
        },
        rows=[
            *_damage_rows("open tier", spoiled_open),
            *_damage_rows("before a restart", spoiled_closed),
            {"what": "power cuts", **asdict(cuts)},
            {"what": "kill -9", **asdict(kills)},
        ],
    )


def _spread(
    pool: ProcessPoolExecutor,
    seeds: random.Random,
    job: Job[T],
    count: int,
    portion: int,
    parent: str | None = None,
) -> Sequence[T]:
    """`count` in portions, each with a seed and a folder (below `parent`) of its own."""
    sizes = [min(portion, count - start) for start in range(0, count, portion)]
    futures = [pool.submit(_portion, job, n, seeds.randrange(2**32), parent) for n in sizes]
    done = tracked(list(range(len(futures))), getattr(job, "__name__", "job"))
    return [future.result() for _, future in zip(done, as_completed(futures), strict=True)]


def _portion(job: Job[T], count: int, seed: int, parent: str | None) -> T:
    logging.disable(logging.WARNING)  # a tier says of every damaged file that it set it aside
    with TemporaryDirectory(dir=parent) as folder:
        return job(count, seed, Path(folder))


def _damage_rows(where: str, spoiled: Spoiled) -> list[dict[str, Any]]:
    return [
        {
            "what": kind,
            "where": where,
            "damages": spoiled.damages[kind],
            "undetected": spoiled.undetected[kind],
        }
        for kind in KIND_NAMES
    ]
