"""What new configurations cost those who ask meanwhile: every deployment of the real application is
replaced, around small parts, under ten requests a second.

* room for two: a successor runs before the old replica ends;
* no room: engines end first, as where all GPUs are taken, and requests wait for their successors;
* cannot start: a reranker whose model is missing; what ran before goes on.

Apart from these, as it cannot be free of failures: the only reranker had to end, and its successor
cannot start. Until the former configuration is back there is nobody to answer.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import httpx

from tests.bench.harness import Options, Result, folder_on_disk
from tests.cluster.running import Running, serving
from tests.cluster.traffic import DOCUMENT, Outcome, Traffic

RATE = 10.0
AROUND_S = 10.0
"""Of requests before the first update, between two, and after the last."""
NO_ROOM = {"placement": {"max_surge_percent": 0}}
MISSING = {"models": {"reranker": {"source": "missing"}}}
UPDATES: dict[str, dict[str, Any]] = {
    "room for two": {"models": {"generator": {"source": "newer"}}},
    "no room": NO_ROOM,
    "cannot start": MISSING,
}
WITHOUT_ANY = {"cannot start, no room": {**MISSING, **NO_ROOM}}
Span = tuple[float, float, dict[str, Any]]
"""From when to when, how many of the replicas are others after it, and what was said."""


def run(options: Options) -> Result:
    updates = dict(list(UPDATES.items())[:2]) if options.quick else UPDATES
    with folder_on_disk() as folder, serving(folder) as service:
        body = {"documents": [DOCUMENT]}
        httpx.post(f"{service.url}/v1/documents", json=body, timeout=60).raise_for_status()
        rows, every = updated(service, updates)
        apart, hopeless = updated(service, {} if options.quick else WITHOUT_ANY)
    rows.append({"update": "all of these", **row(every)})
    figures: dict[str, float] = {
        "requests": len(every),
        "failed_requests": sum(bool(o.error) for o in every),
        "failed_without_any_replica": sum(bool(o.error) for o in hopeless),
    }
    return Result({"rate": RATE, "updates": updates}, figures, [*rows, *apart[1:]])


def updated(
    service: Running, updates: dict[str, dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Outcome]]:
    """A row of the time before, one of each update; and all requests, those in between too."""
    with Traffic(service.url, RATE) as traffic:
        began = time.monotonic()
        time.sleep(AROUND_S)
        spans: dict[str, Span] = {"none": (began, time.monotonic(), {})}
        for name, changes in updates.items():
            spans[name] = update(service, changes)
            time.sleep(AROUND_S)
    rows = []
    for name, (start, end, what) in spans.items():
        meanwhile = row(within(traffic, start, end))
        rows.append({"update": name, "seconds": round(end - start, 1), **meanwhile, **what})
    return rows, traffic.outcomes


def update(service: Running, changes: dict[str, Any]) -> Span:
    before, started = service.replicas(), time.monotonic()
    said = service.update(**changes)
    ended = time.monotonic()
    return started, ended, {"replaced": len(before - service.replicas()), "said": said}


def within(traffic: Traffic, start: float, end: float) -> list[Outcome]:
    """Those that were in progress at any moment in between."""
    return [o for o in traffic.outcomes if o.begun < end and o.begun + o.seconds > start]


def row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Times are of requests that no word was made slow for."""
    brief = [o.seconds for o in outcomes if o.kind != "stream"]
    failed = [o for o in outcomes if o.error]
    return {
        "requests": len(outcomes),
        "failed": len(failed),
        "median_s": round(statistics.median(brief), 3),
        "max_s": round(max(brief), 3),
        "errors": sorted({f"{o.kind}: {o.error}" for o in failed})[:5],
    }
