"""The reranker's queue: what waits together is scored together.

Whoever cancels a future gives its place back: at once where it waits, before the next pass where it
is being scored.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from actors.engine.config import RerankerConfig
from actors.errors import ActorError, OverloadedError
from actors.messages import RerankRequest, RerankResult
from actors.work_meter import WorkMeter
from kvstore.supervised import Supervisor

if TYPE_CHECKING:  # it imports torch, which the ingress does without
    from actors.engine.rerank import RerankEngine

T = TypeVar("T")
Abandoned = Callable[[], bool]

log = logging.getLogger(__name__)

_WEIGHT_OF_LATEST = 0.5
"""In the mean time per candidate: a cold batch is forgotten after a few warm ones."""


class Cancellable(Future[T]):
    """Remembers that it was cancelled although it runs already."""

    def __init__(self) -> None:
        super().__init__()
        self.abandoned = False

    def cancel(self) -> bool:
        self.abandoned = True
        return super().cancel()

    def is_abandoned(self) -> bool:
        """Nobody waits for the result any more."""
        return self.abandoned


@dataclass(eq=False, slots=True)
class _Waiting:
    """A request that is not scored yet."""

    future: Cancellable[RerankResult]
    request: RerankRequest
    begin: Callable[[], None]
    submitted: float = field(default_factory=time.monotonic)

    @property
    def deadline(self) -> float:
        return self.submitted + self.request.timeout_s

    @property
    def num_texts(self) -> int:
        return len(self.request.texts)


class RerankQueue:
    """Owns the engine thread. First come, first served; requests of one tenant that stand next to
    each other share a batch that is expected to take at most `batch_latency_s`."""

    def __init__(self, engine: "RerankEngine", config: RerankerConfig, threads: Supervisor) -> None:
        self._engine, self._config = engine, config
        self._queue: deque[_Waiting | _Aside] = deque()
        self._arrived = threading.Condition()
        self._num_open = 0
        self._num_batches = 0
        self._seconds_per_candidate: float | None = None
        self.meter = WorkMeter()
        """In passages."""
        threads.start("reranker-engine", self._turn)

    @property
    def num_open(self) -> int:
        """Requests and other work that wait or are being done."""
        return self._num_open

    @property
    def num_batches(self) -> int:
        return self._num_batches

    def submit(
        self, request: RerankRequest, begin: Callable[[], None]
    ) -> Cancellable[RerankResult]:
        """`begin` is called on the engine thread when its turn comes. Raises OverloadedError when
        the queue is full."""
        future = Cancellable[RerankResult]()
        self.meter.arrive(len(request.texts))
        try:
            self._put(_Waiting(future, request, begin))
        except OverloadedError:
            self.meter.begin(len(request.texts))
            raise
        return future

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Other work for the engine thread, in its turn. Raises OverloadedError."""
        return self.run_cancellable(lambda abandoned: work())

    def run_cancellable(self, work: Callable[[Abandoned], T]) -> Future[T]:
        """Other work, which is told by a question of its own when nobody waits for it any more."""
        future = Cancellable[T]()
        self._put(_Aside(future, work))
        return future

    def _put(self, item: "_Waiting | _Aside") -> None:
        with self._arrived:
            if self._num_open >= self._config.max_waiting:
                raise OverloadedError("the reranker's queue")
            self._num_open += 1
            self._queue.append(item)
            self._arrived.notify()
        item.future.add_done_callback(lambda future: self._leave(item))

    def _leave(self, item: "_Waiting | _Aside") -> None:
        with self._arrived:
            self._num_open -= 1
            if item in self._queue:  # cancelled before its turn
                self._queue.remove(item)
                self.meter.begin(item.num_texts)

    def _turn(self) -> None:
        """One batch, or one piece of other work."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._queue)
            item = self._queue.popleft()
            batch = [item, *self._joining(item)] if isinstance(item, _Waiting) else []
        started = time.monotonic()
        try:
            if isinstance(item, _Waiting):
                self.meter.begin(sum(w.num_texts for w in batch))
                self._score([w for w in batch if w.future.set_running_or_notify_cancel()])
            else:
                item.run()
        finally:
            self.meter.work(time.monotonic() - started)

    def _joining(self, first: _Waiting) -> list[_Waiting]:
        """Those behind the first that fit into its batch. Called with the lock held."""
        joining: list[_Waiting] = []
        num_candidates = first.num_texts
        while self._queue and self._seconds_per_candidate is not None:
            following = self._queue[0]
            if not isinstance(following, _Waiting):
                break
            num_candidates += following.num_texts
            expected_s = num_candidates * self._seconds_per_candidate
            same = following.request.tenant == first.request.tenant
            if not same or expected_s > self._config.batch_latency_s:
                break
            joining.append(following)
            self._queue.popleft()
        return joining

    def _score(self, batch: Sequence[_Waiting]) -> None:
        from actors.engine.asking import Ask

        begun = [waiting for waiting in batch if self._begin(waiting)]
        if not begun:
            return
        self._num_batches += 1
        started = time.monotonic()
        try:
            asks = [
                Ask(
                    w.request.query,
                    w.request.texts,
                    w.deadline,
                    w.future.is_abandoned,
                    w.request.earlier,
                    w.request.max_document_tokens,
                    w.request.excerpt,
                )
                for w in begun
            ]
            for i, outcome in self._engine.score_batch(begun[0].request.tenant, asks):
                if isinstance(outcome, ActorError):
                    begun[i].future.set_exception(outcome)
                else:
                    self.meter.complete(begun[i].num_texts)
                    begun[i].future.set_result(outcome)
        except Exception as error:  # the thread's boundary: those who wait are told
            self._retry_alone([w for w in begun if not w.future.done()], error)
        self._learn(time.monotonic() - started, sum(w.num_texts for w in begun))

    def _begin(self, waiting: _Waiting) -> bool:
        try:
            waiting.begin()
        except Exception as error:  # a request's failure is no other's
            waiting.future.set_exception(error)
            return False
        return True

    def _retry_alone(self, unscored: Sequence[_Waiting], error: Exception) -> None:
        """A batch failed: the request at fault is found by scoring each by itself."""
        if len(unscored) == 1:
            unscored[0].future.set_exception(error)
            return
        log.error("a batch of %d failed: each is tried alone", len(unscored), exc_info=error)
        for waiting in unscored:
            waiting.begin = _nothing
            self._score([waiting])

    def _learn(self, seconds: float, num_candidates: int) -> None:
        latest = seconds / max(1, num_candidates)
        before = self._seconds_per_candidate
        weight = 1.0 if before is None else _WEIGHT_OF_LATEST
        self._seconds_per_candidate = weight * latest + (1 - weight) * (before or 0.0)


@dataclass(eq=False, slots=True)
class _Aside:
    """Work of the engine thread that is no request."""

    future: Cancellable[Any]
    work: Callable[[Abandoned], Any]
    num_texts: int = 0

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self.work(self.future.is_abandoned))
        except Exception as error:  # the thread's boundary: who waits is told
            self.future.set_exception(error)


def _nothing() -> None:
    pass
