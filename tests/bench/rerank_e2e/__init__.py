"""The whole service over HTTP: the traditional one (`reranker.reuse: off`, everything else equal)
against HyperRAG with its passages precomputed; one after the other, on the same cores.

50 candidates of 256 tokens, top 3, 16 output tokens; questions fall on topics by Zipf's law. The
traditional service at 0.8 of its closed-loop capacity gives the limit, its P99; HyperRAG's rate is
the highest of a ladder of multiples that stays within it; a request that fails or takes 1.5 times
the limit ends the attempt. Arrivals are Poisson, open loop, one pattern at every rate and for both,
and so are the topics asked about; the questions are new each time. Every rate is kept up for as
long as the traditional one: an overload needs time to show. P99 is the maximum where a row says
fewer than 100 requests. The same with 20 candidates of 128 tokens, in rows alone: there reuse can
give 2.4 times the rate at most.

On two cores 50 minutes, with `--quick` 8 minutes: fewer passages and requests, no second set-up.
"""

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.engine.config import ModelConfig
from hyperrag import Client
from tests.bench.harness import CannotRun, Options, Result
from tests.bench.rerank_e2e.ladder import MULTIPLES, highest
from tests.bench.rerank_e2e.load import Load, Target
from tests.bench.rerank_e2e.topics import EXPONENT, QUESTION_TOKENS, Topics, load_tokenizer
from tests.integration.service import Service, running

TOP_K, NEW_TOKENS = 3, 16
UTILISATION = 0.8
TIMEOUT_S = 900.0
SETTINGS: dict[str, Any] = {
    "store": {"dram_bytes": 3 * 2**30, "ssd_bytes": 16 * 2**30},  # 3 GiB, 16 GiB
    "ingress": {"request_timeout_s": TIMEOUT_S},
    "engine": {"compute_wait_s": TIMEOUT_S},
}


@dataclass(frozen=True, slots=True)
class Setup:
    candidates: int
    passage_tokens: int

    @property
    def name(self) -> str:
        return f"{self.candidates}x{self.passage_tokens}"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; the open loop lasts about `phase_s` at the traditional rate."""

    setups: tuple[Setup, ...]
    topics: int
    capacity_requests: int
    phase_s: float
    min_requests: int
    max_requests: int


FULL = Size((Setup(50, 256), Setup(20, 128)), 10, 8, 150.0, 16, 100)
QUICK = Size((Setup(50, 256),), 3, 4, 40.0, 6, 30)


def run(options: Options) -> Result:
    size = QUICK if options.quick else FULL
    tokenizer = load_tokenizer(ModelConfig())
    corpora = {
        setup: Topics(tokenizer, size.topics, setup.candidates, setup.passage_tokens, options.seed)
        for setup in size.setups
    }
    rows: list[dict[str, Any]] = []
    baselines: dict[Setup, Load] = {}
    figures: dict[str, float] = {}
    with _service("off") as service:
        for setup, topics in corpora.items():
            baselines[setup] = _baseline(_filled(service, setup, topics, options.seed), size)
            rows.append(_row(setup, "traditional", baselines[setup]))
    with _service("on") as service:
        for setup, topics in corpora.items():
            target = _filled(service, setup, topics, options.seed)
            loads, found = _ours(target, baselines[setup])
            rows += [_row(setup, "HyperRAG", load) for load in loads]
            rows.append({"setup": setup.name, "arm": "ratios", **found})
            figures = figures or found
    config: dict[str, Any] = {
        "model": asdict(ModelConfig()),
        "size": asdict(size),
        "settings": SETTINGS,
    }
    config |= {"top_k": TOP_K, "new_tokens": NEW_TOKENS, "question_tokens": QUESTION_TOKENS}
    return Result(config | {"zipf_exponent": EXPONENT}, figures, rows)


@contextmanager
def _service(reuse: str) -> Iterator[Service]:
    """On a disk: the system's folder for temporary files may be memory."""
    below = Path.home() / ".cache" / "hyperrag" / "bench"
    below.mkdir(parents=True, exist_ok=True)
    settings = SETTINGS | {"reranker": {"reuse": reuse}}
    with (
        tempfile.TemporaryDirectory(dir=below) as folder,
        running(Path(folder), settings) as service,
    ):
        yield service


def _filled(service: Service, setup: Setup, topics: Topics, seed: int) -> Target:
    """The set-up's corpus in a collection of its own, its segments in the store where there is
    reuse, and a question through all stages."""
    with Client(service.url, timeout_s=TIMEOUT_S) as client:
        report = client.ingest(topics.documents, setup.name)
        if report.num_passages != len(topics.documents):
            raise CannotRun(f"{len(topics.documents)} texts were cut to {report.num_passages}")
        for _ in client.warm(setup.name):
            pass
    options = {"collection": setup.name, "top_n": setup.candidates}
    options |= {"top_k": TOP_K, "max_tokens": NEW_TOKENS}
    target = Target(service.url, options, topics, seed)
    target.capacity(1)
    return target


def _baseline(target: Target, size: Size) -> Load:
    """At UTILISATION of the capacity. Raises CannotRun where a request failed."""
    rate = UTILISATION * target.capacity(size.capacity_requests)
    num = min(size.max_requests, max(size.min_requests, round(size.phase_s * rate)))
    load = target.load(rate, num, TIMEOUT_S)
    if load.failed:
        raise CannotRun(f"the traditional service failed at {rate:.3g} requests a second")
    return load


def _ours(target: Target, baseline: Load) -> tuple[list[Load], dict[str, float]]:
    """All loads that were tried, at the traditional rate first, and the figures."""
    limit_s = baseline.p99_s
    loads: list[Load] = []

    def sustained(multiple: float) -> bool:
        num = round(multiple * baseline.requests)
        load = target.load(multiple * baseline.rate, num, 1.5 * limit_s)
        loads.append(load)
        return not load.failed and load.p99_s <= limit_s

    found = (highest(MULTIPLES, sustained) or 1.0) if sustained(1.0) else 0.0
    ours_s = math.inf if loads[0].failed else loads[0].p99_s
    figures = {
        "qps_ratio_same_p99": found,
        "p99_ratio_same_rate": round(limit_s / ours_s, 3),
        "qps_baseline": round(baseline.rate, 4),
        "qps_ours": round(found * baseline.rate, 4),
    }
    return loads, figures


def _row(setup: Setup, arm: str, load: Load) -> dict[str, Any]:
    return {"setup": setup.name, "arm": arm, **load.row()}
