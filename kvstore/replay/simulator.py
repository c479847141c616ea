"""One server, one SSD channel, two tiers: what happens to each request, in modelled seconds."""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Literal

from kvstore.allocator import Allocator
from kvstore.arena import GRANULE, granules
from kvstore.config import PolicyName
from kvstore.costs import PrefillProfile
from kvstore.eviction import Eviction
from kvstore.occupants import Occupants
from kvstore.pending import PendingWindow
from kvstore.policies import NextUse, create_policy
from kvstore.replay.trace import Request
from kvstore.shares import Shares
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey, SegmentSpec

_FOR_EVER_S = 1e12
"""Announcements do not expire: simulated time is not the window's clock."""

_NO_BOUND = 10**9
"""Keys: a queue of any length."""

Event = Literal["arrival", "read", "computed"]


@dataclass(frozen=True, slots=True)
class Setting:
    policy: PolicyName
    prefetch: bool
    dram_bytes: int
    ssd_bytes: int
    ssd_bytes_per_s: float
    lookahead_requests: int = 4
    profile: PrefillProfile = field(default_factory=PrefillProfile.default)


@dataclass(slots=True)
class Outcome:
    ttft_s: list[float] = field(default_factory=list)
    """By request, in order of service: waiting, reading and prefill."""
    tokens: int = 0
    """Of the reusable part of all prompts."""
    dram_tokens: int = 0
    ssd_tokens: int = 0
    """Found there when the request was served."""
    ssd_read_bytes: int = 0
    prefetched: int = 0
    prefetch_used: int = 0
    prefetch_late: int = 0
    """Still being read when it was needed."""
    prefetch_unused: int = 0
    """Evicted before anybody needed it."""
    makespan_s: float = 0.0


class SimulatedSsd:
    """Objects up to a number of bytes."""

    def __init__(self, setting: Setting) -> None:
        self.shelf = Shelf(create_policy(setting.policy, setting.profile))
        self._capacity = setting.ssd_bytes

    def make_room(self, spec: SegmentSpec, next_use: NextUse) -> bool:
        missing = self.shelf.nbytes + spec.layout.nbytes - self._capacity
        if missing > 0:
            for key in self.shelf.victims(missing, next_use):
                self.shelf.remove(key, evicted=True)
        return self.shelf.nbytes + spec.layout.nbytes <= self._capacity


class SimulatedArena:
    """Runs of granules, as in the real one: a hole that is too small is no room."""

    def __init__(self, setting: Setting, window: PendingWindow) -> None:
        self.shelf = Shelf(create_policy(setting.policy, setting.profile))
        self._allocator = Allocator(setting.dram_bytes // GRANULE)
        self._occupants = Occupants(self._allocator)
        self._coming: dict[SegmentKey, int] = {}
        nobody = Shares(0.0, lambda: setting.dram_bytes)  # a trace names no tenants
        lookahead = setting.lookahead_requests
        self._eviction = Eviction(self._occupants, self.shelf, nobody, window, lookahead)

    def reserve(self, spec: SegmentSpec, sooner: int = -1) -> bool:
        """Room for it, of what no queued request up to the rank `sooner` needs."""
        length = granules(spec.layout.nbytes)
        if not self._allocator.can_allocate(length):
            for key in self._eviction.victims(length, spec.tenant, sooner):
                self._allocator.free(self._occupants.start_of(key))
                self._occupants.leave(key)
                self.shelf.remove(key, evicted=True)
        if not self._allocator.can_allocate(length):
            return False
        self._coming[spec.key] = self._allocator.allocate(length)
        return True

    def add(self, spec: SegmentSpec, now: float, cost: float | None = None) -> None:
        """It fills what was reserved for it."""
        self._occupants.enter(spec.key, self._coming.pop(spec.key))
        self.shelf.add(Entry(spec, spec.layout.nbytes, now), cost)


class Simulator:
    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._window = PendingWindow(max_keys=_NO_BOUND)
        self._dram = SimulatedArena(setting, self._window)
        self._ssd = SimulatedSsd(setting)
        self._waiting: deque[Request] = deque()
        self._events: list[tuple[float, int, Event, object]] = []
        self._order = count()
        self._serving: Request | None = None
        self._num_hits = 0
        self._missing: set[SegmentKey] = set()
        self._demand: deque[SegmentSpec] = deque()
        self._reading: SegmentSpec | None = None
        self._prefetched: set[SegmentKey] = set()
        self.outcome = Outcome()

    def run(self, requests: Sequence[Request]) -> Outcome:
        for request in requests:
            self._at(request.at, "arrival", request)
        now = 0.0
        while self._events:
            now, _, event, what = heapq.heappop(self._events)
            if event == "arrival":
                assert isinstance(what, Request)
                self._waiting.append(what)
                keys = [spec.key for spec in what.path]
                self._window.announce(str(id(what)), b"", keys, _FOR_EVER_S)
            elif event == "read":
                self._read_done(now)
            else:
                self._computed(now)
            self._go_on(now)
        self.outcome.makespan_s = now
        self.outcome.prefetch_unused += len(self._prefetched)
        return self.outcome

    def _at(self, time: float, event: Event, what: object = None) -> None:
        heapq.heappush(self._events, (time, next(self._order), event, what))

    def _go_on(self, now: float) -> None:
        """Whatever is idle and has work begins it."""
        if self._serving is None and self._waiting:
            self._start(self._waiting.popleft(), now)
        if self._reading is None and self._demand:
            self._read(self._demand.popleft(), now)
        if self._reading is None and self._setting.prefetch:
            self._prefetch(now)

    def _start(self, request: Request, now: float) -> None:
        """Pin and touch what is there; order what must be read; compute when it has come."""
        self._window.retire(str(id(request)))
        self._serving = request
        self._hold(request, True)
        self._num_hits = self._match(request)
        hits = request.path[: self._num_hits]
        leaf_first = [spec.key for spec in reversed(hits)]
        self._dram.shelf.touch(leaf_first)
        self._ssd.shelf.touch(leaf_first)
        if not self._missing:
            self._compute(now)

    def _match(self, request: Request) -> int:
        """How many segments from the start are in DRAM, on the way there, or can be read."""
        outcome = self.outcome
        outcome.tokens += sum(spec.layout.num_tokens for spec in request.path)
        for i, spec in enumerate(request.path):
            key, num_tokens = spec.key, spec.layout.num_tokens
            if key in self._dram.shelf:
                outcome.dram_tokens += num_tokens
                outcome.prefetch_used += key in self._prefetched
                self._prefetched.discard(key)
                continue
            if self._reading is not None and self._reading.key == key:
                outcome.prefetch_late += 1
                self._prefetched.discard(key)
            elif key in self._ssd.shelf:
                if not self._dram.reserve(spec):
                    return i
                self._demand.append(spec)
            else:
                return i
            outcome.ssd_tokens += num_tokens
            self._missing.add(key)
        return len(request.path)

    def _compute(self, now: float) -> None:
        assert self._serving is not None
        self._at(now + self._setting.profile.seconds(*self._work(self._serving)), "computed")

    def _work(self, request: Request) -> tuple[int, int]:
        """Tokens of the one being served: cached, and to be computed."""
        cached = sum(spec.layout.num_tokens for spec in request.path[: self._num_hits])
        return cached, request.num_tokens - cached

    def _computed(self, now: float) -> None:
        """What was computed is kept in both tiers, as far as there is room; then it is written."""
        request = self._serving
        assert request is not None
        self.outcome.ttft_s.append(now - request.at)
        rest = request.path[self._num_hits :]
        cost = self._setting.profile.seconds_per_token(*self._work(request))
        new = [spec for spec in rest if spec is not self._reading]
        for spec in new:
            if spec.key not in self._dram.shelf:
                if not self._dram.reserve(spec):
                    break
                self._dram.add(spec, now, cost)
        next_use = self._window.next_use(self._setting.lookahead_requests)
        for spec in new:
            if spec.key not in self._ssd.shelf:
                if not self._ssd.make_room(spec, next_use):
                    break
                self._ssd.shelf.add(Entry(spec, spec.layout.nbytes, now), cost)
        self._hold(request, False)
        self._serving = None
        self._count_wasted()

    def _read(self, spec: SegmentSpec, now: float) -> None:
        self._reading = spec
        self.outcome.ssd_read_bytes += spec.layout.nbytes
        self._at(now + spec.layout.nbytes / self._setting.ssd_bytes_per_s, "read")

    def _read_done(self, now: float) -> None:
        spec, self._reading = self._reading, None
        assert spec is not None
        self._dram.add(spec, now)
        if spec.key in self._missing:
            self._missing.remove(spec.key)
            if not self._missing:
                self._compute(now)

    def _prefetch(self, now: float) -> None:
        """The first read that a queued request needs and that evicts nothing needed sooner."""
        for rank, request in enumerate(self._upcoming()):
            for spec in request.path:
                if spec.key in self._dram.shelf:
                    continue
                if spec.key not in self._ssd.shelf:
                    break
                if not self._dram.reserve(spec, rank):
                    return
                self._prefetched.add(spec.key)
                self.outcome.prefetched += 1
                self._read(spec, now)
                return

    def _upcoming(self) -> list[Request]:
        return list(islice(self._waiting, self._setting.lookahead_requests))

    def _hold(self, request: Request, is_served: bool) -> None:
        """What is being served stays in both tiers."""
        for policy in (self._dram.shelf.policy, self._ssd.shelf.policy):
            for spec in request.path:
                (policy.hold if is_served else policy.unhold)(spec.key.digest)

    def _count_wasted(self) -> None:
        coming = self._reading.key if self._reading else None
        wasted = {k for k in self._prefetched if k != coming and k not in self._dram.shelf}
        self.outcome.prefetch_unused += len(wasted)
        self._prefetched -= wasted
