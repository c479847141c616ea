"""A continuous batcher: sequences join and leave the decoding batch between any two tokens."""

import logging
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from actors.engine.config import GeneratorConfig
from actors.engine.generate import GenerateEngine, Sequence
from actors.errors import ActorError, ExpiredError, OverloadedError, UnavailableError
from actors.messages import FinishReason, GenerateChunk, GenerateRequest
from actors.work_meter import StepCost, WorkMeter
from kvstore.supervised import Supervisor, each

T = TypeVar("T")

log = logging.getLogger(__name__)

Emit = Callable[[GenerateChunk | Exception], object]
"""Called on the engine thread: chunks, the last with a finish_reason, or one exception."""


@dataclass(slots=True)
class Job:
    request: GenerateRequest
    emit: Emit
    begin: Callable[[], None] = lambda: None
    """Called on the engine thread when the job leaves the queue, whatever comes of it."""
    submitted: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    ttft_s: float = 0.0
    unsent: str = ""
    """Text that waits for its piece of the stream."""
    sent_at: float = 0.0
    """When the last piece left, on the monotonic clock."""

    @property
    def deadline(self) -> float:
        return self.submitted + self.request.timeout_s


@dataclass(slots=True)
class _Aside:
    """Work of the engine thread that is no request."""

    work: Callable[[], object]
    done: Future[Any]

    def run(self) -> None:
        if self.done.set_running_or_notify_cancel():
            try:
                self.done.set_result(self.work())
            except Exception as error:  # who waits for it is told, the thread goes on
                self.done.set_exception(error)


class Batcher:
    """Owns the engine thread. `submit` and `cancel` may be called from any thread."""

    def __init__(
        self, engine: GenerateEngine, config: GeneratorConfig, threads: Supervisor
    ) -> None:
        self._engine, self._config = engine, config
        self._waiting: queue.Queue[Job | _Aside | None] = queue.Queue(config.max_waiting)
        self._active: list[tuple[Job, Sequence]] = []
        self._admitting = False
        self._stepping_s = 0.0
        self._cost = StepCost(config.max_batch)
        self.meter = WorkMeter()
        """In requests."""
        self._thread = threads.start("generator-engine", self._step)

    @property
    def alive(self) -> bool:
        return self._thread.stats().up

    @property
    def num_waiting(self) -> int:
        return self._waiting.qsize()

    @property
    def num_active(self) -> int:
        return len(self._active)

    @property
    def must_wait(self) -> bool:
        """Whether a request submitted now waits for others: queued, in prefill, in every place."""
        full = self.num_active >= self._config.max_batch
        return full or self._admitting or self.num_waiting > 0

    def submit(
        self, request: GenerateRequest, emit: Emit, begin: Callable[[], None] = lambda: None
    ) -> Job:
        """Queue a request; `begin` is called when its turn comes. Raises OverloadedError when the
        queue is full."""
        job = Job(request, emit, begin)
        self.meter.arrive(1)
        try:
            self._put(job)
        except (OverloadedError, UnavailableError):
            self.meter.begin(1)
            raise
        return job

    def run(self, work: Callable[[], T]) -> Future[T]:
        """Do this on the engine thread, between two tokens, when its turn in the queue comes.
        Raises as `submit`."""
        done: Future[T] = Future()
        self._put(_Aside(work, done))
        return done

    def cancel(self, job: Job) -> None:
        """Nothing more is emitted; its place is free before the next token."""
        job.cancelled = True

    def close(self, timeout_s: float = 10.0) -> None:
        """End the thread after the current step; what is under way fails."""
        for job, _ in self._active:
            job.cancelled = True
        self._waiting.put(None, timeout=timeout_s)
        self._thread.join(timeout_s)
        self._engine.close()

    def _put(self, item: Job | _Aside) -> None:
        if not self.alive:
            raise UnavailableError("the generator's engine thread has ended")
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            raise OverloadedError("the generator's queue") from None

    def _step(self) -> bool:
        """Take in what waits and has a place, then one more token for all. What fails here in
        whatever way ends the requests of the batch, which are told."""
        try:
            while len(self._active) < self._config.max_batch:
                try:
                    item = self._waiting.get(block=not self._active)
                except queue.Empty:
                    break
                if item is None:
                    return False
                self._take(item)
            self._advance()
        except BaseException as error:
            self._fail(error)
            raise
        return True

    def _take(self, item: Job | _Aside) -> None:
        self._admitting = True
        try:
            started = time.monotonic() - self._stepping_s
            if isinstance(item, _Aside):
                item.run()
            else:
                self.meter.begin(1)
                self._admit(item)
            self.meter.work(time.monotonic() - self._stepping_s - started)
        finally:
            self._admitting = False

    def _fail(self, error: BaseException) -> None:
        """All of the batch; one whose caller has gone keeps nobody from being told."""
        jobs, self._active = [job for job, _ in self._active], []
        failure = UnavailableError(f"generation failed: {type(error).__name__}: {error}")
        each(jobs, lambda job: job.emit(failure))

    def _admit(self, job: Job) -> None:
        try:
            job.begin()
            if job.cancelled:
                return
            if time.monotonic() > job.deadline:
                raise ExpiredError("the request's time was up while it waited for the generator")
            sequence = self._engine.start(job.request, job.deadline, self._advance)
        except ActorError as error:
            job.emit(error)
            return
        except Exception as error:  # a request's failure must not end the engine's thread
            log.exception("request %s failed in prefill", job.request.request_id)
            job.emit(UnavailableError(f"generation failed: {type(error).__name__}: {error}"))
            return
        job.ttft_s = time.monotonic() - job.submitted
        if not self._deliver(job, sequence):
            self._active.append((job, sequence))

    def _advance(self) -> bool:
        """One more token for all; False where nobody waits for one."""
        self._active = [(job, s) for job, s in self._active if not self._dropped(job)]
        if not self._active:
            return False
        started = time.monotonic()
        try:
            self._engine.step([sequence for _, sequence in self._active])
        except Exception as error:  # the batch fails, the thread and the next batch go on
            log.exception("decoding failed")
            self._fail(error)
            return True
        seconds = time.monotonic() - started
        self._stepping_s += seconds
        self.meter.work(self._cost.in_full_batches(len(self._active), seconds))
        self._active = [(job, s) for job, s in self._active if not self._deliver(job, s)]
        return True

    def _dropped(self, job: Job) -> bool:
        if not job.cancelled and time.monotonic() > job.deadline:
            job.emit(ExpiredError("the request's time was up while its answer was generated"))
            return True
        return job.cancelled

    def _deliver(self, job: Job, sequence: Sequence) -> bool:
        """Emit the newest token's text; whether the answer is complete."""
        ended = self._engine.ends(sequence.last)
        text = "" if ended else sequence.text.push(sequence.last)
        reason: FinishReason | None = None
        if ended or sequence.text.stopped:
            reason = "stop"
        elif sequence.num_new >= job.request.sampling.max_tokens:
            reason = "length"
        if reason is not None and not sequence.text.stopped:
            text += sequence.text.flush()
        if reason is not None:
            self.meter.complete(1)
        job.unsent += text
        if self._is_due(job, reason):
            text, job.unsent, job.sent_at = job.unsent, "", time.monotonic()
            job.emit(
                GenerateChunk(
                    text=text,
                    finish_reason=reason,
                    prompt_tokens=sequence.num_prompt,
                    completion_tokens=sequence.num_new,
                    ttft_s=job.ttft_s,
                    cache=sequence.cache,
                )
            )
        return reason is not None

    def _is_due(self, job: Job, reason: FinishReason | None) -> bool:
        """The first text and the end at once, what lies between in pieces of an interval."""
        if job.cancelled:
            return False
        waited_s = time.monotonic() - job.sent_at
        return reason is not None or bool(job.unsent and waited_s >= self._config.stream_interval_s)
