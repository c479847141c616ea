"""Any sequence of calls, right and wrong, of deaths, failures and restarts keeps every promise."""

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.kvstore.machine.actions import ACTIONS
from tests.kvstore.machine.driver import LIFE_STEPS, Walk, walk
from tests.kvstore.machine.hypothesis_machine import StoreMachine

_SEARCHED = 2_500
"""Steps that hypothesis chooses, at least; the others a seeded generator does."""
_WALKED = 7_500
_LENGTH = 50


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A store on a disk that fails says so, thousands of times."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_ten_thousand_steps_break_nothing() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        walked = pool.submit(_walk_quietly, 0, _WALKED)
        searched = _search(_SEARCHED)
        done = walked.result()
    assert not done.failures, "\n".join(map(str, done.failures))
    assert searched + done.steps >= 10_000


def test_every_action_is_taken() -> None:
    """A walk that could do nothing would break nothing."""
    done = walk(0, 4 * LIFE_STEPS)
    assert not done.failures, "\n".join(map(str, done.failures))
    assert done.steps == 4 * LIFE_STEPS
    assert not {action.name for action in ACTIONS} - done.seen.keys()
    assert done.seen["ssd_hits"] and done.seen["commits"]
    assert done.seen["dram_evictions"] and done.seen["ssd_evictions"]


def _search(steps: int) -> int:
    """By hypothesis; how many it did in the end."""
    StoreMachine.taken.clear()
    settings_ = settings(
        max_examples=steps // _LENGTH, stateful_step_count=_LENGTH, deadline=None, database=None,
        derandomize=True, print_blob=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(StoreMachine, settings=settings_)
    return StoreMachine.taken.total()


def _walk_quietly(seed: int, steps: int) -> Walk:
    logging.disable(logging.ERROR)
    return walk(seed, steps)
