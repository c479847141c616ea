"""The reranker's queue: what waits together is scored together."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from actors.engine.config import RerankerConfig
from actors.errors import ActorError, OverloadedError
from actors.messages import RerankRequest, RerankResult
from actors.work_meter import WorkMeter
from kvstore.supervised import Supervisor

if TYPE_CHECKING:  # it imports torch, which the ingress does without
    from actors.engine.rerank import RerankEngine

T = TypeVar("T")

_WEIGHT_OF_LATEST = 0.5
"""In the mean time per candidate: a cold batch is forgotten after a few warm ones."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that is not scored yet."""

    future: "Future[RerankResult]"
    request: RerankRequest
    begin: Callable[[], None]
    submitted: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        return self.submitted + self.request.timeout_s


class RerankQueue:
    """Owns the engine thread. First come, first served; requests of one tenant that stand next to
    each other share a batch that is expected to take at most `batch_latency_s`."""

    def __init__(self, engine: "RerankEngine", config: RerankerConfig, threads: Supervisor) -> None:
        self._engine, self._config = engine, config
        self._queue: deque[_Waiting | Callable[[], None]] = deque()
        self._arrived = threading.Condition()
        self._num_open = 0
        self._num_batches = 0
        self._seconds_per_candidate: float | None = None
        self.meter = WorkMeter()
        """In passages."""
        threads.start("reranker-engine", self._step)

    @property
    def num_open(self) -> int:
        """Requests and other work that wait or are being done."""
        return self._num_open

    @property
    def num_batches(self) -> int:
        return self._num_batches

    def submit(self, request: RerankRequest, begin: Callable[[], None]) -> "Future[RerankResult]":
        """`begin` is called on the engine thread when its turn comes. A future that is cancelled
        before that costs nothing. Raises OverloadedError when the queue is full."""
        future: Future[RerankResult] = Future()
        self.meter.arrive(len(request.texts))
        try:
            self._put(_Waiting(future, request, begin), future)
        except OverloadedError:
            self.meter.begin(len(request.texts))
            raise
        return future

    def run(self, work: Callable[[], T]) -> "Future[T]":
        """Other work for the engine thread, in its turn. Raises OverloadedError."""
        future: Future[T] = Future()
        self._put(lambda: _settle(future, work), future)
        return future

    def _put(self, item: _Waiting | Callable[[], None], future: "Future[T]") -> None:
        with self._arrived:
            if self._num_open >= self._config.max_waiting:
                raise OverloadedError("the reranker's queue")
            self._num_open += 1
            self._queue.append(item)
            self._arrived.notify()
        future.add_done_callback(self._leave)

    def _leave(self, future: "Future[T]") -> None:
        with self._arrived:
            self._num_open -= 1

    def _step(self) -> None:
        """One batch, or one piece of other work."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._queue)
            item = self._queue.popleft()
        started = time.monotonic()
        if isinstance(item, _Waiting):
            self._do(item)
        else:
            item()
        self.meter.work(time.monotonic() - started)

    def _do(self, first: _Waiting) -> None:
        """Score a request, and what joins it in the batch. Who waits is told of every failure."""
        batch = [first]
        try:
            with self._arrived:
                batch += self._joining(first)
            self.meter.begin(sum(len(w.request.texts) for w in batch))
            self._score([w for w in batch if w.future.set_running_or_notify_cancel()])
        except BaseException as error:
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            raise

    def _joining(self, first: _Waiting) -> list[_Waiting]:
        """Those behind the first that fit into its batch. Called with the lock held."""
        joining: list[_Waiting] = []
        num_candidates = len(first.request.texts)
        while self._queue and self._seconds_per_candidate is not None:
            following = self._queue[0]
            if not isinstance(following, _Waiting):
                break
            num_candidates += len(following.request.texts)
            expected_s = num_candidates * self._seconds_per_candidate
            same = following.request.tenant == first.request.tenant
            if not same or expected_s > self._config.batch_latency_s:
                break
            joining.append(following)
            self._queue.popleft()
        return joining

    def _score(self, batch: Sequence[_Waiting]) -> None:
        from actors.engine.asking import Ask

        if not batch:
            return
        self._num_batches += 1
        started = time.monotonic()
        try:
            for waiting in batch:
                waiting.begin()
            asks = [Ask(w.request.query, w.request.texts, w.deadline) for w in batch]
            for i, outcome in self._engine.score_batch(batch[0].request.tenant, asks):
                if isinstance(outcome, ActorError):
                    batch[i].future.set_exception(outcome)
                else:
                    self.meter.complete(len(batch[i].request.texts))
                    batch[i].future.set_result(outcome)
        except Exception as error:  # the thread's boundary: those who wait are told
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
        self._learn(time.monotonic() - started, sum(len(w.request.texts) for w in batch))

    def _learn(self, seconds: float, num_candidates: int) -> None:
        latest = seconds / max(1, num_candidates)
        before = self._seconds_per_candidate
        weight = 1.0 if before is None else _WEIGHT_OF_LATEST
        self._seconds_per_candidate = weight * latest + (1 - weight) * (before or 0.0)


def _settle(future: "Future[T]", work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except Exception as error:  # the thread's boundary: who waits is told
        future.set_exception(error)
