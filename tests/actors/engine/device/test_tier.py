"""What both device tiers promise: pins on a CPU, copies in a pool."""

import time

import pytest

from actors.engine.config import DeviceTierConfig
from actors.engine.segments import Segments
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.conftest import Made, MakeTier, pool_tier
from tests.actors.engine.device.kv import SEGMENT_BYTES, path_of, same, use
from tests.kvstore.segments import assert_balanced, store_path

ROOM_FOR_TWO = 4096 + 2 * SEGMENT_BYTES
"""The trunk, and two passages."""


def test_what_was_computed_or_read_is_read_again_without_the_store(
    made: Made, store: KVStore, client: LocalStoreClient
) -> None:
    segments = made()
    assert use(segments, path_of(1), path_of(2)).computed == 3
    store_path(client, path_of(3))
    assert use(segments, path_of(3)).dram_hits == 1, "the trunk is kept, the passage is the store's"
    assert store.flush(5)
    before = store.stats()
    report = use(segments, path_of(1), path_of(3))
    assert (report.device_hits, report.dram_hits, report.computed) == (3, 0, 0)
    assert report.tokens_reused == 8 + 32 + 32 and report.bytes_moved == 0
    assert store.stats() == before, "not even a lease"
    assert segments.stats().num_segments == 4
    assert_balanced(store)


def test_only_paths_that_are_not_wholly_there_are_asked_for(made: Made, store: KVStore) -> None:
    segments = made()
    use(segments, path_of(1), path_of(2))
    report = use(segments, path_of(1), path_of(2, 3))
    assert (report.device_hits, report.computed) == (3, 1)
    assert store.stats().misses == 4
    assert use(segments, path_of(2, 3)).device_hits == 3


def test_off_keeps_nothing(made: Made, store: KVStore) -> None:
    segments = made(0)
    use(segments, path_of(1))
    assert use(segments, path_of(1)).dram_hits == 2
    assert store.stats().leases == 0 and segments.stats().used_bytes == 0


def test_the_bound_holds_and_leaves_go_first(made: Made, store: KVStore) -> None:
    segments = made(ROOM_FOR_TWO, policy="lru")
    for i in range(1, 8):
        use(segments, path_of(i))
    stats = segments.stats()
    assert (stats.num_segments, stats.evictions) == (3, 5)
    assert stats.used_bytes <= stats.capacity_bytes
    assert use(segments, path_of(7), path_of(6)).device_hits == 3
    assert use(segments, path_of(1, 2)).device_hits == 1, "only the trunk"
    assert_balanced(store)


def test_a_request_larger_than_the_tier_reads_the_rest_from_the_store(
    made: Made, store: KVStore
) -> None:
    segments = made(ROOM_FOR_TWO)
    paths = [path_of(i) for i in range(10)]
    assert use(segments, *paths).computed == 11
    report = use(segments, *paths)
    assert (report.device_hits, report.dram_hits) == (3, 8)
    assert segments.stats().num_segments == 3
    assert_balanced(store)


@pytest.mark.parametrize(("policy", "stays"), [("lru", 2), ("lfu", 1)])
def test_the_policy_decides_what_goes(made: Made, policy: str, stays: int) -> None:
    segments = made(ROOM_FOR_TWO, policy=policy)
    for number in (1, 1, 1, 2, 3):
        use(segments, path_of(number))
    assert use(segments, path_of(stays)).device_hits == 2


@pytest.mark.parametrize(("policy", "stays"), [("lru", False), ("lookahead_lru", True)])
def test_with_look_ahead_what_the_queue_needs_stays(made: Made, policy: str, stays: bool) -> None:
    segments = made(ROOM_FOR_TWO, policy=policy)
    use(segments, path_of(1))
    segments.announce("queued", [path_of(1)], 60)
    for number in (2, 3, 4):
        use(segments, path_of(number))
    segments.retire("queued")
    assert use(segments, path_of(1)).device_hits == (2 if stays else 1)


def test_what_a_request_reads_is_not_evicted_under_it(made: Made) -> None:
    segments = made(ROOM_FOR_TWO, policy="lru")
    use(segments, path_of(1))
    with segments.lease([path_of(1)], time.monotonic() + 5) as lease:
        for number in (2, 3, 4):
            use(segments, path_of(number))
        assert all(same(lease.tensors[spec.key], spec) for spec in path_of(1))
        assert segments.unchanged(lease)
    assert use(segments, path_of(1)).device_hits == 2


def test_forgotten_passages_go_with_all_that_follows(made: Made, store: KVStore) -> None:
    segments = made()
    use(segments, path_of(1, 2), path_of(3))
    with segments.lease([path_of(1, 2)], time.monotonic() + 5) as lease:
        segments.forget([path_of(1)[1].tag])
        assert all(same(lease.tensors[spec.key], spec) for spec in path_of(1, 2))
    assert segments.stats().num_segments == 2
    report = use(segments, path_of(1, 2), path_of(3))
    assert (report.device_hits, report.computed) == (2, 2)
    assert_balanced(store)


def test_what_follows_a_forgotten_passage_goes_without_it_too(made: Made) -> None:
    segments = made()
    use(segments, path_of(1, 2), path_of(3))
    tier = segments._tier
    tier._drop(tier._residents[path_of(1)[1].key])
    segments.forget([path_of(1)[1].tag])
    assert tier._residents.keys() == {spec.key for spec in path_of(3)}
    assert not tier.check()


def test_what_only_the_tier_has_is_given_back_to_the_store(
    made: Made, store: KVStore, client: LocalStoreClient
) -> None:
    segments = made()
    use(segments, path_of(1))
    client.remove_tags([path_of(1)[1].tag])
    assert use(segments, path_of(1)).device_hits == 2, "content named by its tokens is never wrong"
    report = use(segments, path_of(1, 2))
    assert (report.device_hits, report.computed) == (2, 1)
    assert len(client.acquire([path_of(1, 2)], 1).hits) == 3
    assert store.stats().commits == 4
    assert_balanced(store)


def test_eviction_copies_nothing_out(made: Made, store: KVStore) -> None:
    """Swap-out-only-once: the copy below was made at the commit."""
    segments = made(ROOM_FOR_TWO)
    for _ in range(3):
        for number in range(6):
            use(segments, path_of(number))
    store.flush(5)
    assert segments.stats().evictions > 6
    assert store.stats().commits == 7
    written = store.stats().ssd.written_bytes
    assert written < 2 * (4096 + 6 * SEGMENT_BYTES)


def test_a_store_that_is_gone_takes_pins_along_and_no_copies(
    made: Made, store: KVStore, make_tier: MakeTier
) -> None:
    segments = made()
    use(segments, path_of(1))
    store.close()
    report = use(segments, path_of(1))
    if make_tier is pool_tier:
        assert (report.device_hits, report.store) == (2, "used")
    else:
        assert (report.device_hits, report.computed, report.store) == (0, 2, "unavailable")


def test_who_ends_hands_over_what_the_store_has_lost(
    made: Made, store: KVStore, client: LocalStoreClient
) -> None:
    segments = made()
    use(segments, path_of(1, 2), path_of(3))
    client.remove_tags([path_of(1)[1].tag])
    assert store.flush(5)
    before = store.stats().commits
    assert segments.hand_over(time.monotonic() + 5) == 2, "the passage, and what follows it"
    assert store.stats().commits == before + 2
    assert len(client.acquire([path_of(1, 2), path_of(3)], 1).hits) == 4
    assert segments.hand_over(time.monotonic() + 5) == 0
    assert_balanced(store)


def test_nothing_is_handed_over_without_a_store_or_to_one_that_has_it(
    made: Made, store: KVStore, make_tier: MakeTier
) -> None:
    segments = made()
    use(segments, path_of(1))
    before = store.stats()
    assert segments.hand_over(time.monotonic() + 5) == 0
    assert store.stats() == before, "not even a lease"
    alone = Segments(None, make_tier(DeviceTierConfig()))
    assert alone.hand_over(time.monotonic() + 5) == 0
