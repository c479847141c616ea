"""How long one more question would take: what cannot be done in time is refused when it comes.

Requests of a path that are in progress share what the service can do. `places` of them are worked
on at once, the others wait, and while some wait one ends every `each_s` seconds: so a new one has
its turn after as many of these as stand before it beyond the places. It is measured by whoever
ends, which took `each_s` for every one in progress when it came (Little's law). One that did not
wait tells no more than that a place is free again after its time: of a service that was never full
it is assumed that all places are as fast together as one alone.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from time import monotonic

from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from actors.errors import OverloadedError
from cluster.config import HyperRagConfig
from cluster.usage import Usage

SHARE = 0.75
"""Of the time that a request has: requests differ, and so does what they take."""
_LAST = 16
"""Requests from which it is told, by their median: one that had nothing in the store is not taken
for all."""
_ENOUGH = 3
"""Of them, to tell anything."""
_KEY = "ingress.request_timeout_s"


class TooLateError(OverloadedError):
    """A request that would not be done in time."""

    def __init__(self, expected_s: float, limit_s: float, retry_after_s: float) -> None:
        super().__init__("the ingress", retry_after_s)
        self.args = (expected_s, limit_s, retry_after_s)
        self.expected_s, self.limit_s = expected_s, limit_s

    def __str__(self) -> str:
        return (
            f"the answer would take about {self.expected_s:.1f} s, too long for {self.limit_s:g} s "
            f"({_KEY}); retry after {self.retry_after_s:.0f} s"
        )


@dataclass(slots=True)
class Pace:
    """Of the requests of one path."""

    num_open: int = 0
    places: int = 1
    each_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))
    """How often one ends while others wait, as the last ones tell it."""
    first_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LAST))
    """From the turn of each to its answer, or to the first token of a stream."""

    def expected_s(self) -> float:
        """What one more would take; 0 if it need not wait, or too little is known."""
        waiting = self.num_open + 1 - self.places
        if len(self.each_s) < _ENOUGH or waiting <= 0:
            return 0.0
        return waiting * median(self.each_s) + median(self.first_s or (0.0,))

    def check(self, limit_s: float) -> None:
        """Raises TooLateError if one more would not be done in this time."""
        expected_s = self.expected_s()
        over_s = expected_s - limit_s * SHARE
        if over_s > 0:
            raise TooLateError(expected_s, limit_s, min(max(1.0, over_s), limit_s))

    def ended(self, num_open: int, places: int, seconds: float, first_s: float) -> None:
        """One was answered. `num_open`: in progress when it came, itself included."""
        self.places = places
        self.each_s.append(seconds / max(num_open, places))
        if num_open <= places:
            self.first_s.append(first_s)

    def expired(self, num_open: int, seconds: float) -> None:
        """The time of one was up: it would have taken longer."""
        each_s = seconds / max(num_open, self.places)
        if self.each_s and each_s > median(self.each_s):
            self.each_s.append(each_s)


class Visit:
    """One request, from its admission to its end."""

    def __init__(self) -> None:
        self.status = 0
        self.is_stream = False

    def seen(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                kind = Headers(raw=message["headers"]).get("content-type", "")
                self.is_stream = kind.startswith("text/event-stream")
            await send(message)

        return watched


class Paces:
    """By path, of those on which something was ranked or answered: the paths of endpoints, which
    are few."""

    def __init__(self, config: HyperRagConfig) -> None:
        """`ingress.num_replicas` share the places, and each sees its own requests."""
        num = config.ingress.num_replicas
        self._limit_s = config.ingress.request_timeout_s
        writing = config.generator.num_replicas * config.generator.max_batch
        self._writing_places = max(1, writing // num)
        self._ranking_places = max(1, config.reranker.num_replicas // num)
        self._paces: dict[str, Pace] = {}

    @contextmanager
    def taken(self, scope: Scope) -> Iterator[Visit]:
        """Raises TooLateError at once for what would not be done in time."""
        path = scope["path"]
        pace, visit = self._paces.setdefault(path, Pace()), Visit()
        pace.check(self._limit_s)
        pace.num_open += 1
        num_open, started = pace.num_open, monotonic()
        try:
            yield visit
        finally:
            pace.num_open -= 1
            self._learn(pace, num_open, monotonic() - started, visit, scope["state"]["usage"])
            if pace.num_open == 0 and not pace.each_s:
                del self._paces[path]

    def _learn(self, pace: Pace, num_open: int, seconds: float, visit: Visit, usage: Usage) -> None:
        stages = usage.timings_ms
        if usage.broke_off == 504 or visit.status == 504:
            pace.expired(num_open, seconds)
        elif visit.status == 200 and not usage.broke_off and "generate" in stages:
            first_s = stages["ttft"] / 1000 if visit.is_stream else seconds
            pace.ended(num_open, self._writing_places, seconds, first_s)
        elif visit.status == 200 and "rerank" in stages:
            pace.ended(num_open, self._ranking_places, seconds, seconds)
