"""Any sequence of calls, right and wrong, of deaths, failures and restarts keeps every promise."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.kvstore.machine.actions import ACTIONS
from tests.kvstore.machine.driver import LIFE_STEPS, Walk, walk
from tests.kvstore.machine.hypothesis_machine import StoreMachine
from tests.kvstore.machine.together import walks

_SEARCHED = 4_000
"""Steps that hypothesis draws, some of which find nothing to do; the others a seeded generator
takes."""
_WALKED = 8_200
_LENGTH = 50
_EFFECTS = {"commits", "ssd_hits", "dram_evictions", "ssd_evictions"}
"""What a walk must have made the store do. Removals from disk are rare: a world sees one or none,
by the times its threads take."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A store on a disk that fails says so, thousands of times."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_ten_thousand_steps_break_nothing() -> None:
    with ThreadPoolExecutor(1) as aside:
        walking = aside.submit(lambda: sum(walks(0, _WALKED, 1), Walk()))
        searched = _search(_SEARCHED)
        walked = walking.result()
    missing = 10_000 - searched - walked.steps
    if missing > 0:
        walked += walk(1_000, missing)
    assert not walked.failures, "\n".join(map(str, walked.failures))
    assert searched + walked.steps >= 10_000


def test_every_action_is_taken() -> None:
    """A walk that could do nothing would break nothing."""
    done = walk(0, 4 * LIFE_STEPS)
    assert not {action.name for action in ACTIONS} - done.seen.keys()
    while missing := _EFFECTS - (+done.seen).keys():
        assert done.steps < _WALKED, missing
        done += walk(done.steps, LIFE_STEPS)
    assert not done.failures, "\n".join(map(str, done.failures))


def _search(steps: int) -> int:
    """By hypothesis; how many it did in the end."""
    StoreMachine.taken.clear()
    settings_ = settings(
        max_examples=steps // _LENGTH, stateful_step_count=_LENGTH, deadline=None, database=None,
        derandomize=True, print_blob=False, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(StoreMachine, settings=settings_)
    return StoreMachine.taken.total()
