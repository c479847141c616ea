"""Everything at once, with too little memory: no wrong byte, and the books balance afterwards."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired
from tests.kvstore.acting import Actor
from tests.kvstore.segments import assert_balanced, chain_of, fill, passage, small_config
from tests.kvstore.stress import run as run_stress
from tests.kvstore.stress.stressing import SLOW_READS

_SECONDS = 4.0


@pytest.mark.slow
def test_random_requests_from_many_threads(tmp_path: Path) -> None:
    config = small_config(
        tmp_path, dram_bytes=2**18, ssd_bytes=2**17, write_queue=8, faults=SLOW_READS
    )
    store = KVStore(config, "node")

    def run(seed: int) -> tuple[int, int]:
        client, rng, count = LocalStoreClient(store, config.dram_dir), random.Random(seed), 0
        actor, give_up = Actor(client, rng), time.monotonic() + _SECONDS
        while time.monotonic() < give_up:
            actor.act()
            if rng.random() < 0.05:
                assert_balanced(store)
            count += 1
        client.close()
        return count, actor.num_arriving

    with ThreadPoolExecutor(6) as pool:
        counts, arriving = zip(*pool.map(run, range(6)), strict=True)
    stats = store.stats()
    assert sum(arriving) > 0, "hits were on their way"
    assert min(counts) > 5 and stats.dram.evictions and stats.ssd.evictions and stats.ssd.hits
    assert stats.corrupt == stats.leases == stats.open_tickets == 0
    assert store.flush(10)
    report = store.check()
    assert report.ok, report.problems
    store.close()


@pytest.mark.slow
def test_random_requests_from_many_processes() -> None:
    """A minute of `make stress`."""
    result = run_stress(60, 4, 0)
    assert not result.violations
    assert result.requests > 500 and result.kills > 5 and result.samples > 500
    assert result.stats.ssd.hits and result.stats.ssd.evictions and result.stats.dram.evictions


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "stream", "commit", "abort", "release", "remove", "flush"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS)
def test_books_balance_after_any_sequence_of_calls(
    store: KVStore, client: LocalStoreClient, steps: list[tuple[str, int]]
) -> None:
    leases: list[Acquired] = []
    for step, n in steps:
        if step in ("acquire", "stream"):
            path = chain_of([7], passage(n), passage(n // 2))
            leases.append(client.acquire([path], 1, streamed=step == "stream"))
        elif step == "remove":
            client.remove_tags([chain_of([7], passage(n))[1].tag])
        elif step == "flush":
            assert store.flush(5)
        elif leases:
            turn(client, leases, step, n)
        report = store.check()
        assert report.ok, report.problems
    for acquired in leases:
        client.release(acquired.lease_id)
    assert store.stats().leases == store.stats().open_tickets == 0


def turn(client: LocalStoreClient, leases: list[Acquired], step: str, n: int) -> None:
    acquired = leases[n % len(leases)]
    if step == "release":
        client.release(acquired.lease_id)
        leases.remove(acquired)
        return
    live = {t.ticket_id for t in client._store._books.claims.tickets()}
    tickets = [t for t in acquired.tickets.values() if t.ticket_id in live][: n + 1]
    if step == "commit":
        fill(client, acquired, tickets)
        client.commit(acquired, tickets)
    else:
        client.abort(acquired, tickets)
