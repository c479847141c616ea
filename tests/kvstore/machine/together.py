"""Walks in several processes at a time."""

import logging
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.kvstore.machine.driver import LIFE_STEPS, Walk, walk

_PORTION = 10 * LIFE_STEPS


def walks(seed: int, steps: int, processes: int) -> Iterator[Walk]:
    """So many steps in portions, each as soon as it is done; worlds have the seeds from `seed`
    on."""
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        futures = [
            pool.submit(_walk_quietly, seed + at // LIFE_STEPS, min(_PORTION, steps - at))
            for at in range(0, steps, _PORTION)
        ]
        for future in as_completed(futures):
            yield future.result()


def _walk_quietly(seed: int, steps: int) -> Walk:
    """A store on a disk that fails has much to say."""
    logging.disable(logging.ERROR)
    return walk(seed, steps)
