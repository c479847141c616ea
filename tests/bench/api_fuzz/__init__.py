"""What the service answers to requests that nobody should send, judged by its own description.

2,000 requests that schemathesis draws from `/openapi.json`, valid and not in turn, and 200 hostile
ones of ours, in a shuffled order over four connections at a time:

* server_errors: a status of 500 or more, a stream that ends with an error of the service, or none;
* undocumented: a status or a content type that the description does not name for the operation. A
  path or a method that it does not have may be refused, and nothing else;
* plain_text_errors: an error that is not JSON in the documented form;
* memory_growth_mib: of the ingress process while all of them are sent once more, from the first
  tenth to the last: what is loaded or remembered at a first use is no growth.

Bytes that are not HTTP do not reach the service: Serve's proxy refuses them with a line of plain
text. They have a row of their own.
"""

import random
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from hyperrag import Client, Document
from tests.bench.api_fuzz.fuzzed import check_installed, drawn, operations
from tests.bench.api_fuzz.hostile import hostile, no_http
from tests.bench.api_fuzz.judging import PLAIN_TEXT, SERVER_ERROR, UNDOCUMENTED, Description
from tests.bench.api_fuzz.wire import Request, send
from tests.bench.harness import Options, Result, folder_on_disk, tracked
from tests.integration.processes import replicas
from tests.integration.service import Service, running

FUZZED = 2000
QUICK = 200
AT_ONCE = 4
KINDS = (SERVER_ERROR, UNDOCUMENTED, PLAIN_TEXT)
SHOWN = 40
SETTINGS: dict[str, Any] = {
    "store": {"dram_bytes": 384 * 2**20, "ssd_bytes": 2**30},
    # A shared machine is slow at times, which is not what is looked for.
    "ingress": {"request_timeout_s": 300.0, "token_timeout_s": 300.0},
    "retrieval": {"top_n": 4, "top_k": 2, "max_document_bytes": 2**20},
    "generator": {"max_new_tokens": 4, "default_new_tokens": 2},
}
TEXTS = ("Snow is white in winter.", "Grass is green in spring.", "The sea is blue in summer.")


def run(options: Options) -> Result:
    check_installed()
    num = QUICK if options.quick else FUZZED
    with _service() as service:
        document = httpx.get(f"{service.url}/openapi.json", timeout=60).raise_for_status().json()
        fuzzed, own = drawn(operations(document), num, options.seed), hostile()
        sent = random.Random(options.seed).sample([*fuzzed, *own], len(fuzzed) + len(own))
        faults, first = _measured(service, Description(document), sent)
        more_faults, second = _measured(service, Description(document), sent)
        refused = [send(service.port, garbage) for garbage in no_http()]
        alive = httpx.get(f"{service.url}/readyz", timeout=60).status_code == 200
    faults += more_faults
    counts = Counter(kind for kind, _ in faults)
    figures: dict[str, float] = {
        "requests": len(sent),
        **{kind: counts[kind] for kind in KINDS},
        "memory_growth_mib": growth(second),
    }
    rows: list[dict[str, Any]] = [
        {"what": kind, "request": request, "times": times}
        for (kind, request), times in Counter(faults).most_common(SHOWN)
    ]
    statuses = Counter(str(answer.status) for answer in refused)
    rows.append({"what": "not HTTP", "request": f"ready after it: {alive}", **statuses})
    for turn, sizes in (("first", first), ("second", second)):
        rows.append({"what": f"ingress MiB, {turn} turn", "request": str(tenths(sizes))})
    config = {**SETTINGS, "fuzzed": len(fuzzed), "hostile": len(own), "at_once": AT_ONCE}
    return Result(config | {"seed": options.seed, "quick": options.quick}, figures, rows)


@contextmanager
def _service() -> Iterator[Service]:
    with folder_on_disk() as folder, running(folder, SETTINGS) as service:
        with Client(service.url, timeout_s=300) as client:
            client.ingest([Document(text[:5], text) for text in TEXTS], "default")
        yield service


def _measured(
    service: Service, description: Description, sent: Sequence[Request]
) -> tuple[list[tuple[str, str]], list[float]]:
    """(figure, request) of every fault, and the ingress' MiB after every few requests."""
    (ingress,) = replicas(service.processes())["Ingress"]
    faults: list[tuple[str, str]] = []
    sizes: list[float] = []

    def judged(one: Request) -> list[tuple[str, str]]:
        answer = send(service.port, one)
        said = f"{one.name}: {answer.status} {answer.content_type}"
        return [(kind, said) for kind in description.faults(one.method, one.path, answer)]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        batches = [sent[i : i + AT_ONCE] for i in range(0, len(sent), AT_ONCE)]
        for batch in tracked(batches, "requests"):
            for found in threads.map(judged, batch):
                faults += found
            sizes.append(ingress.memory_info().rss / 2**20)
    return faults, sizes


def tenths(sizes: Sequence[float]) -> list[float]:
    """Of as many parts of a run, in their order, the median."""
    ends = [len(sizes) * i // 10 for i in range(11)]
    return [
        round(statistics.median(sizes[start:end]), 1)
        for start, end in zip(ends, ends[1:], strict=False)
    ]


def growth(sizes: Sequence[float]) -> float:
    parts = tenths(sizes)
    return round(parts[-1] - parts[0], 1)
