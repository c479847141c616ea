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
from kvstore.types import Path as Chain
from tests.kvstore.segments import assert_right_bytes, chain_of, fill, passage, small_config

_SECONDS = 4.0


def some_path(rng: random.Random) -> Chain:
    pieces = [rng.randrange(12) for _ in range(rng.randint(1, 3))]
    return chain_of([7] * 8, *[passage(n, 8 + 24 * (n % 4)) for n in pieces])


def act(client: LocalStoreClient, store: KVStore, rng: random.Random) -> None:
    """One request: acquire, compute all or part, look at every hit, give it back."""
    paths = [some_path(rng) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.3:
        client.announce(f"r{rng.randrange(8)}", paths, 0.5)
    acquired = client.acquire(paths, rng.choice([0.0, 0.001, 5.0]))
    kept = [t for t in acquired.tickets.values() if t.extent]
    done = [t for t in kept if rng.random() < 0.8]
    fill(client, acquired, done)
    client.commit(acquired, done)
    assert_right_bytes(client, acquired)
    if rng.random() < 0.5:
        client.abort(acquired, [t for t in kept if t not in done])
    if rng.random() < 0.1:
        client.remove_tags([rng.choice(paths)[-1].tag])
    if rng.random() < 0.05:
        assert store.check().ok
    stats = store.stats()
    assert stats.dram.used_bytes <= stats.dram.capacity_bytes
    assert stats.ssd.used_bytes <= stats.ssd.capacity_bytes
    client.release(acquired.lease_id)


@pytest.mark.slow
def test_random_requests_from_many_threads(tmp_path: Path) -> None:
    config = small_config(tmp_path, dram_bytes=2**18, ssd_bytes=2**17, write_queue=8)
    store = KVStore(config, "node")

    def run(seed: int) -> int:
        client, rng, count = LocalStoreClient(store, config.dram_dir), random.Random(seed), 0
        give_up = time.monotonic() + _SECONDS
        while time.monotonic() < give_up:
            act(client, store, rng)
            count += 1
        client.close()
        return count

    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(run, range(6)))
    stats = store.stats()
    assert min(counts) > 5 and stats.dram.evictions and stats.ssd.evictions and stats.ssd.hits
    assert stats.corrupt == stats.leases == stats.open_tickets == 0
    assert store.flush(10)
    report = store.check()
    assert report.ok, report.problems
    store.close()


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "commit", "abort", "release", "remove", "flush"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(_STEPS)
def test_books_balance_after_any_sequence_of_calls(
    store: KVStore, client: LocalStoreClient, steps: list[tuple[str, int]]
) -> None:
    leases: list[Acquired] = []
    for step, n in steps:
        if step == "acquire":
            leases.append(client.acquire([chain_of([7], passage(n), passage(n // 2))], 1))
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
