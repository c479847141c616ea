"""A continuous batcher: sequences join and leave the decoding batch between any two tokens.

What fails for one request ends that request alone. A pass that fails is repeated for each of its
sequences, so that the one at fault is found and the others go on.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from actors.engine.config import GeneratorConfig
from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.jobs import Aside, CancelledError, Emit, Job
from actors.engine.lanes import Lane
from actors.engine.waiting import WaitingQueue
from actors.errors import ActorError, ExpiredError, OverloadedError, UnavailableError
from actors.messages import FinishReason, GenerateChunk, GenerateRequest
from actors.work_meter import StepCost, WorkMeter
from kvstore.supervised import Supervisor

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Beside:
    """The batch, as the prefill of an item sees it (`chunks.Others`)."""

    batcher: "Batcher"
    item: Job | Aside

    @property
    def decoding(self) -> bool:
        return self.batcher.num_active > 0

    def step(self) -> bool:
        return self.batcher.advance()

    def lanes(self) -> list[Lane]:
        return self.batcher.lanes()

    def take(self, hidden: Tensor) -> None:
        self.batcher.take(hidden)

    def check(self) -> None:
        self.batcher.check_stopped()
        if isinstance(self.item, Job):
            self.item.check("its prompt was computed")


class Batcher:
    """Owns the engine thread. `submit` and `cancel` may be called from any thread."""

    def __init__(
        self, engine: GenerateEngine, config: GeneratorConfig, threads: Supervisor
    ) -> None:
        self._engine, self._config = engine, config
        self._waiting = WaitingQueue[Job | Aside](config.max_waiting, "the generator's queue")
        self._active: list[tuple[Job, Sequence]] = []
        self._admitting = self._closed = False
        self._stepping_s = 0.0
        self._cost = StepCost(config.max_batch)
        self.meter = WorkMeter()
        """In requests."""
        self._thread = threads.start("generator-engine", self._turn)

    @property
    def alive(self) -> bool:
        return self._thread.runs

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

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
        self._put(Aside(work, done))
        return done

    def cancel(self, job: Job) -> None:
        """Nothing more is emitted; its place in the queue is free at once, its place in the batch
        before the next token."""
        job.cancelled = True
        if self._waiting.discard(job):
            self.meter.begin(1)

    def close(self, timeout_s: float = 10.0) -> None:
        """End the thread after the current step; what is under way or waits fails."""
        self._closed = True
        self._thread.stop()
        left = self._waiting.close()
        self._thread.join(timeout_s)
        for item in [*left, *(job for job, _ in self._active)]:
            if isinstance(item, Job):
                item.emit(UnavailableError("the generator was stopped"))
            else:
                item.done.cancel()
        self._engine.close()

    def _put(self, item: Job | Aside) -> None:
        if not self.alive:
            raise UnavailableError("the generator's engine thread has ended")
        self._waiting.put(item)

    def _turn(self) -> bool:
        """Admit who comes next, if there is room, then one more token for all; False at the end."""
        if not self._closed and len(self._active) < self._config.max_batch:
            item = self._waiting.get(block=not self._active)
            if item is not None:
                self._take(item)
        if not self._closed:
            self.advance()
        return not self._closed

    def _take(self, item: Job | Aside) -> None:
        self._admitting = True
        started = time.monotonic() - self._stepping_s
        try:
            with self._engine.chunks.beside(_Beside(self, item)):
                if isinstance(item, Aside):
                    item.run()
                else:
                    self.meter.begin(1)
                    self._admit(item)
        finally:
            self._admitting = False
            self.meter.work(time.monotonic() - self._stepping_s - started)

    def _admit(self, job: Job) -> None:
        try:
            job.begin()
            job.check("it waited for the generator")
            sequence = self._engine.start(job.request, job.deadline)
        except CancelledError:
            return
        except Exception as error:  # a request's failure must not end the engine's thread
            self._fail(job, error)
            return
        job.ttft_s = time.monotonic() - job.submitted
        if not self._deliver(job, sequence):
            self._active.append((job, sequence))

    def check_stopped(self) -> None:
        """Raises UnavailableError after `close`."""
        if self._closed:
            raise UnavailableError("the generator was stopped")

    def advance(self) -> bool:
        """One more token for all; False where nobody waits for one. For the engine thread."""
        self._drop()
        if not self._active:
            return False
        started = time.monotonic()
        failed = self._step(self._active)
        seconds = time.monotonic() - started
        self._stepping_s += seconds
        self.meter.work(self._cost.in_full_batches(len(self._active), seconds))
        self._go_on(failed)
        return True

    def lanes(self) -> list[Lane]:
        """The newest tokens of all that decode, for a pass of somebody else's. For the engine
        thread."""
        self._drop()
        return [sequence.lane() for _, sequence in self._active]

    def take(self, hidden: Tensor) -> None:
        """One more token for all, from hidden states [rows, d] of their `lanes`."""
        failed = self._engine.take([s for _, s in self._active], hidden)
        self._go_on({i: (self._active[i][0], error) for i, error in failed.items()})

    def _go_on(self, failed: dict[int, tuple[Job, Exception]]) -> None:
        """Sequences that have a token more deliver it; those by index have failed."""
        for job, error in failed.values():
            self._fail(job, error)
        advanced = [(job, s) for i, (job, s) in enumerate(self._active) if i not in failed]
        self._active = [(job, s) for job, s in advanced if not self._deliver(job, s)]

    def _step(self, active: list[tuple[Job, Sequence]]) -> dict[int, tuple[Job, Exception]]:
        """A token more for each; jobs with their errors, by index, of those that got none."""
        try:
            errors: dict[int, Exception] = {**self._engine.step([s for _, s in active])}
        except ActorError as error:  # of the node, not of one of them: no compute slot
            errors = dict.fromkeys(range(len(active)), error)
        except Exception as error:  # the pass fails, the thread goes on
            if len(active) == 1:
                return {0: (active[0][0], error)}
            log.exception("a pass over %d sequences failed: each is tried alone", len(active))
            alone = {i: self._step([one]) for i, one in enumerate(active)}
            return {i: failed[0] for i, failed in alone.items() if failed}
        return {i: (active[i][0], error) for i, error in errors.items()}

    def _fail(self, job: Job, error: Exception) -> None:
        """The request ends with its error; an unforeseen one is logged."""
        if not isinstance(error, ActorError):
            name = job.request.request_id
            log.error("request %s failed", name, exc_info=error)
            error = UnavailableError(f"generation failed: {type(error).__name__}: {error}")
        try:
            job.emit(error)
        except Exception:  # who asked is gone: the thread goes on for the others
            log.exception("nobody takes the error of request %s", job.request.request_id)

    def _deliver(self, job: Job, sequence: Sequence) -> bool:
        """Emit the newest token's text; whether the answer is complete, or has failed."""
        try:
            return self._emit(job, sequence)
        except Exception as error:  # a request's failure must not end the engine's thread
            self._fail(job, error)
            return True

    def _drop(self) -> None:
        """Sequences that are cancelled, or whose time is up, leave the batch."""
        self._active = [(job, s) for job, s in self._active if not self._dropped(job)]

    def _dropped(self, job: Job) -> bool:
        try:
            job.check("its answer was generated")
        except CancelledError:
            return True
        except ExpiredError as error:
            self._fail(job, error)
            return True
        return False

    def _emit(self, job: Job, sequence: Sequence) -> bool:
        """Whether the answer is complete."""
        ended = self._engine.ends(sequence.last)
        text = "" if ended else sequence.text.push(sequence.last)
        reason: FinishReason | None = None
        if ended or sequence.text.stopped:
            reason = "stop"
        elif sequence.num_new >= sequence.max_new:
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
                    num_left_out=sequence.num_left_out,
                    cuts=sequence.cuts,
                    logprobs=self._engine.logprobs(sequence),
                )
            )
        return reason is not None

    def _is_due(self, job: Job, reason: FinishReason | None) -> bool:
        """The first text and the end at once, what lies between in pieces of an interval."""
        if job.cancelled:
            return False
        waited_s = time.monotonic() - job.sent_at
        return reason is not None or bool(job.unsent and waited_s >= self._config.stream_interval_s)
