"""A policy answers within milliseconds however many segments it knows: the lock is held meanwhile.

Measured in processor time, which a busy machine does not lengthen; the best of several.
"""

import time
from collections.abc import Callable

import pytest

from kvstore.policies import create_policy
from kvstore.policies.nodes import History
from kvstore.policies.ranked import MAX_GHOSTS, RankedPolicy
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey
from tests.kvstore.held import tiny_paths

NUM = 12_000
TENANT = tiny_paths(1)[0][0].tenant


@pytest.fixture(scope="module")
def policy() -> RankedPolicy:
    """With as many segments that were evicted as it remembers, and some that are here."""
    policy = create_policy("pgdsf")
    assert isinstance(policy, RankedPolicy)
    for n in range(MAX_GHOSTS):
        policy.remember(SegmentKey(bytes(8), n.to_bytes(32, "big")), History())
    for path in tiny_paths(NUM):
        policy.on_insert(Entry(path[0], 4096, 0.0))
    return policy


def seconds(call: Callable[[], object]) -> float:
    """Of the fastest of five."""
    times = []
    for _ in range(5):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return min(times)


def test_a_copy_of_what_was_learned(policy: RankedPolicy) -> None:
    assert seconds(policy.learned) < 0.006


def test_a_leaf_that_is_gone_is_not_looked_for_in_a_copy_of_the_order(
    policy: RankedPolicy,
) -> None:
    gone = (0.0, 0), SegmentKey(bytes(8), bytes(32))
    assert not policy.is_stale(TENANT, gone)
    assert seconds(lambda: [policy.is_stale(TENANT, gone) for _ in range(100)]) < 0.003


def test_the_latest_of_a_bounded_number_are_remembered() -> None:
    policy = create_policy("pgdsf")
    keys = [SegmentKey(bytes(8), n.to_bytes(32, "big")) for n in range(MAX_GHOSTS + 1)]
    for key in (*keys, keys[MAX_GHOSTS // 2]):
        policy.remember(key, History())
    ghosts = [key for key, _ in policy.learned().latest(len(keys))]
    assert len(ghosts) == MAX_GHOSTS and keys[0] not in ghosts
    assert ghosts[:2] == [keys[MAX_GHOSTS // 2], keys[-1]]
