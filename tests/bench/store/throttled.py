"""The direction of the replay on a real store: real threads and files, a disk that is slowed down,
and a server that sleeps for as long as computing would take."""

import random
import statistics
import time
from collections import deque
from pathlib import Path

from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout, SegmentSpec
from kvstore.types import Path as Chain
from tests.bench.harness import Options
from tests.bench.store.segments import config, fill_ssd, specs

_LAYOUT = Layout(num_layers=1, num_kv_heads=2, num_tokens=64, head_dim=64, dtype="bfloat16")
"""32 KiB in one layer: two reads a segment, header and layer."""
_DOCUMENTS, _PER_REQUEST, _IN_DRAM = 120, 4, 40
_PREFILL_S = 0.020
"""Of one segment that nobody has."""
_QUESTION_S = 0.012
"""Of the part of a request that is always computed."""
_READ_S = 0.7 * _PREFILL_S / 2
"""Each of a segment's two reads: reading takes 0.7 of computing."""
_LOAD = 0.9


def measure(folder: Path, options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    number = 60 if options.quick else 200
    rng = random.Random(options.seed)
    documents = specs(_DOCUMENTS, _LAYOUT)
    weights = [1 / (rank + 1) ** 0.8 for rank in range(_DOCUMENTS)]
    requests = [_request(rng, documents, weights) for _ in range(number)]
    fill_ssd(folder / "throttled", documents)
    saturated = _serve(folder, requests, [0.0] * number, "lru", 0)
    rate = _LOAD * number / saturated[1]
    gaps = [rng.expovariate(rate) for _ in range(number)]
    arrivals = [sum(gaps[: i + 1]) for i in range(number)]
    plain = _serve(folder, requests, arrivals, "lru", 0)
    ours = _serve(folder, requests, arrivals, "lookahead_pgdsf", 4)
    rows: list[dict[str, object]] = [
        {"what": "real run, slowed disk: mean TTFT with LRU, ms", "value": round(plain[0] * 1e3)},
        {"what": "with look-ahead and prefetch, ms", "value": round(ours[0] * 1e3)},
    ]
    return {"throttled_ttft_gain": plain[0] / ours[0]}, rows


def _request(rng: random.Random, documents: list[SegmentSpec], weights: list[float]) -> list[Chain]:
    chosen = dict.fromkeys(rng.choices(documents, weights, k=_PER_REQUEST))
    return [(spec,) for spec in chosen]


def _serve(
    folder: Path, requests: list[list[Chain]], arrivals: list[float], policy: str, lookahead: int
) -> tuple[float, float]:
    """(mean TTFT, makespan) in seconds: one server, first come, first served; who waits is
    announced on arrival."""
    settings = config(
        folder / "throttled",
        policy=policy,
        lookahead_requests=lookahead,
        dram_bytes=2**19 + _IN_DRAM * _LAYOUT.nbytes,
        faults=(f"read delay {_READ_S}",),
    )
    store = KVStore(settings, "bench")
    client = LocalStoreClient(store, settings.dram_dir)
    assert store.flush(60)
    waiting: deque[int] = deque()
    began, arrived = time.monotonic(), 0
    ttft: list[float] = []
    while len(ttft) < len(requests):
        now = time.monotonic() - began
        while arrived < len(requests) and arrivals[arrived] <= now:
            client.announce(str(arrived), requests[arrived], 600)
            waiting.append(arrived)
            arrived += 1
        if not waiting:
            time.sleep(max(0.0, arrivals[arrived] - now))
            continue
        index = waiting.popleft()
        client.retire(str(index))
        _answer(client, requests[index])
        ttft.append(time.monotonic() - began - arrivals[index])
    makespan = time.monotonic() - began
    client.close()
    store.close()
    return statistics.mean(ttft), makespan


def _answer(client: LocalStoreClient, paths: list[Chain]) -> None:
    acquired = client.acquire(paths, 60)
    tickets = list(acquired.tickets.values())
    time.sleep(_QUESTION_S + _PREFILL_S * len(tickets))
    client.commit(acquired, [ticket for ticket in tickets if ticket.extent is not None])
    client.release(acquired.lease_id)
