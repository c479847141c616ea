"""What one replica of the ingress counts. Labels have few values: routes as the application names
them, stages, HTTP methods and statuses; never an id, a tenant or a path that a client chose."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from cluster.usage import Usage

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)
"""Upper bounds of all histograms: a probe takes milliseconds, ingestion up to ten minutes."""
STAGES = ("search", "rerank", "generate")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
UNROUTED = "none"
"""Route of what no endpoint got: refused at the door, or no such path."""


class Instruments:
    """Counts requests as they end. `replica` names this process in every series."""

    def __init__(self, replica: str, limit: int) -> None:
        self._replica = replica
        self._registry = CollectorRegistry()
        self._requests = self._counter(
            "requests",
            "Requests that ended, by HTTP status; of a stream that broke off, its error's",
            ("method", "route", "status"),
        )
        self._duration = self._histogram(
            "request_duration_seconds",
            "Arrival to last byte of requests that were answered (2xx)",
            ("method", "route"),
        )
        self._ttft = self._histogram(
            "time_to_first_token_seconds",
            "Arrival of a question to the first token of its answer, by generator mode",
            ("mode",),
        )
        self._stages = self._histogram(
            "stage_duration_seconds",
            "Time of a stage as the ingress sees it, queues included",
            ("stage",),
        )
        self._tokens = self._counter("tokens", "Tokens of prompts and of answers", ("kind",))
        self._refusals = self._counter(
            "refusals", "Requests refused because a bounded queue was full (429)", ("queue",)
        )
        self._retries = self._counter(
            "retries", "Requests for which a second replica was asked after one was lost"
        )
        self.in_progress = self._gauge("requests_in_progress", "Requests that have not ended")
        limited = self._gauge("requests_limit", "ingress.max_queued_requests: beyond it 429")
        limited.set(limit)
        self._begin_at_zero()

    def count(
        self, method: str, route: str | None, status: int, seconds: float, usage: Usage
    ) -> None:
        """A request has ended."""
        method = method if method in METHODS else "other"
        route = route or UNROUTED
        ended = usage.broke_off or status
        self._requests.labels(method, route, str(ended)).inc()
        if 200 <= ended < 300:
            self._duration.labels(method, route).observe(seconds)
        if usage.refused_by:
            self._refusals.labels(usage.refused_by).inc()
        self._retries.inc(usage.retried)
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)
        self._count_stages(usage)

    def families(self) -> list[Metric]:
        """All series so far, each with this replica's name."""
        return [_named(family, self._replica) for family in self._registry.collect()]

    def _counter(self, name: str, help: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"hyperrag_{name}", help, labels, registry=self._registry)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(f"hyperrag_{name}", help, registry=self._registry)

    def _histogram(self, name: str, help: str, labels: tuple[str, ...]) -> Histogram:
        name = f"hyperrag_{name}"
        return Histogram(name, help, labels, buckets=SECONDS, registry=self._registry)

    def _begin_at_zero(self) -> None:
        """What is expected in time: `rate()` sees the first event only of a series that was there
        before."""
        for stage in STAGES:
            self._stages.labels(stage)
        for kind in ("prompt", "completion"):
            self._tokens.labels(kind)
        self._refusals.labels("ingress")

    def _count_stages(self, usage: Usage) -> None:
        for stage in STAGES:
            if stage in usage.timings_ms:
                self._stages.labels(stage).observe(usage.timings_ms[stage] / 1000)
        generated = usage.cache.get("generate")
        if generated is not None and "ttft" in usage.timings_ms:
            self._ttft.labels(generated.mode or "full").observe(usage.timings_ms["ttft"] / 1000)


def merged(parts: Iterable[Iterable[Metric]]) -> list[Metric]:
    """The families of several processes, each once, with the samples of all."""
    families: dict[str, Metric] = {}
    for part in parts:
        for family in part:
            if family.name in families:
                families[family.name].samples += family.samples
            else:
                families[family.name] = family
    return list(families.values())


def _named(family: Metric, replica: str) -> Metric:
    """Without the times of creation, which would double the series of every counter."""
    family.samples = [
        sample._replace(labels={**sample.labels, "replica": replica})
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    return family
