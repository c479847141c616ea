"""Two pools of replicas in virtual time: bounded queues, deadlines, starts that take time.

A simulation: a replica serves one request at a time. No split can take more GPUs than there are: a
replica that is to start without a free one waits, and that is counted.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from actors.work_meter import WorkMeter
from cluster.autoscaling.rebalancer import Occupied
from cluster.autoscaling.splits import Split
from tests.bench.autoscaler_sim.loads import GPUS, Load

SLO_S = 20.0
MAX_WAITING = 4
"""Requests in the queue of a pool, for each of its replicas; more are refused."""
LOAD_S = 18.0
"""From the start of a replica to its first request."""
HAND_OVER_S = 1.0
"""From the last request of a replica to the end of its process."""
VARIATION = 0.3
"""Coefficient of variation of service times."""


@dataclass(slots=True)
class Request:
    arrived: float
    service_s: tuple[float, float]


@dataclass(slots=True)
class Pool:
    stage: int
    meter: WorkMeter = field(default_factory=WorkMeter)
    queue: deque[Request] = field(default_factory=deque)
    target: int = 1
    idle: int = 0
    busy: int = 0
    starting: int = 0
    going: int = 0
    """Replicas that hand over; of the busy ones, those that are too many will."""

    @property
    def running(self) -> int:
        return self.idle + self.busy

    @property
    def alive(self) -> int:
        return min(self.running, self.target) + self.starting

    @property
    def stopping(self) -> int:
        """Those that still serve a last request among them."""
        return max(0, self.running - self.target) + self.going


class Plant:
    """`control(now, plant)` says, once a second, how many replicas there are to be."""

    def __init__(self, load: Load, split: Split, seed: int) -> None:
        self.load = load
        self.rank = Pool(0, target=split.rerank, idle=split.rerank)
        self.write = Pool(1, target=split.generate, idle=split.generate)
        self.now = 0.0
        self.arrived = self.in_time = self.waits_for_gpu = 0
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._noise = (1.0, 1.0, 1.0)

    @property
    def targets(self) -> Split:
        return Split(self.rank.target, self.write.target)

    @property
    def running(self) -> Split:
        return Split(
            min(self.rank.running, self.rank.target), min(self.write.running, self.write.target)
        )

    @property
    def occupied(self) -> Occupied:
        return Occupied(
            Split(self.rank.alive, self.write.alive), Split(self.rank.stopping, self.write.stopping)
        )

    @property
    def num_occupied(self) -> int:
        return sum(pool.alive + pool.stopping for pool in (self.rank, self.write))

    @property
    def ongoing(self) -> tuple[int, int]:
        """Requests of each pool, waiting or served: what Serve's own policy looks at."""
        return (
            len(self.rank.queue) + self.rank.busy,
            len(self.write.queue) + self.write.busy,
        )

    def run(self, control: Callable[[float, "Plant"], Split]) -> None:
        self._at(0.0, self._draw_noise)
        self._at(self._gap(), self._arrive)
        self._at(0.0, lambda: self._steer(control))
        while self._events[0][0] < self.load.seconds:
            self.now, _, act = heapq.heappop(self._events)
            act()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), act))

    def _draw_noise(self) -> None:
        draw, noise = self._random.uniform, self.load.noise
        self._noise = (draw(-noise, noise) + 1, draw(-noise, noise) + 1, draw(-noise, noise) + 1)
        self._at(self.now + 10.0, self._draw_noise)

    def _gap(self) -> float:
        return self._random.expovariate(self.load.rate(self.now) * self._noise[0])

    def _arrive(self) -> None:
        self.arrived += 1
        rank, write = self.load.service_s(self.now)
        request = Request(self.now, (rank * self._noise[1], write * self._noise[2]))
        self._enter(self.rank, request)
        self._at(self.now + self._gap(), self._arrive)

    def _enter(self, pool: Pool, request: Request) -> None:
        pool.meter.arrive(1)
        if len(pool.queue) >= MAX_WAITING * pool.target:
            pool.meter.begin(1)  # refused
            return
        pool.queue.append(request)
        self._serve(pool)

    def _serve(self, pool: Pool) -> None:
        while pool.idle and pool.queue:
            request = pool.queue.popleft()
            pool.meter.begin(1)
            if self.now > request.arrived + SLO_S:
                continue  # shed: its time is up
            shape = VARIATION**-2
            mean = request.service_s[pool.stage]
            seconds = self._random.gammavariate(shape, mean / shape)
            pool.idle, pool.busy = pool.idle - 1, pool.busy + 1
            self._at(self.now + seconds, partial(self._end, pool, request, seconds))

    def _end(self, pool: Pool, request: Request, seconds: float) -> None:
        pool.meter.complete(1)
        pool.meter.work(seconds)
        pool.busy -= 1
        if pool.running + 1 > pool.target:
            self._retire(pool)
        else:
            pool.idle += 1
        if pool is self.rank:
            self._enter(self.write, request)
        else:
            self.in_time += self.now <= request.arrived + SLO_S
        self._serve(pool)

    def _steer(self, control: Callable[[float, "Plant"], Split]) -> None:
        wanted = control(self.now, self)
        for pool, target in ((self.rank, wanted.rerank), (self.write, wanted.generate)):
            pool.target = target
            while pool.idle and pool.running > target:
                pool.idle -= 1
                self._retire(pool)
            while pool.running + pool.starting < target:
                if self.num_occupied >= GPUS:
                    self.waits_for_gpu += 1
                    break
                pool.starting += 1
                self._at(self.now + LOAD_S, partial(self._ready, pool))
        self._at(self.now + 1.0, lambda: self._steer(control))

    def _retire(self, pool: Pool) -> None:
        pool.going += 1

        def gone() -> None:
            pool.going -= 1

        self._at(self.now + HAND_OVER_S, gone)

    def _ready(self, pool: Pool) -> None:
        pool.starting -= 1
        if pool.running >= pool.target:
            self._retire(pool)
            return
        pool.idle += 1
        self._serve(pool)
