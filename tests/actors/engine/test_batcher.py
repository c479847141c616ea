import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from actors.engine.batcher import Batcher
from actors.engine.config import GeneratorConfig
from actors.engine.generate import GenerateEngine
from actors.engine.runtime import Runtime
from actors.errors import ExpiredError, OverloadedError, RequestError
from actors.messages import GenerateChunk, GenerateRequest, Message, Sampling
from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING
from kvstore.supervised import Supervisor
from tests.actors.engine.texts import PASSAGES, QUESTIONS

Start = Callable[[GeneratorConfig], Batcher]
Chunks = queue.Queue[GenerateChunk | Exception]


@pytest.fixture
def start(runtime: Runtime) -> Iterator[Start]:
    running: list[Batcher] = []

    def make(config: GeneratorConfig) -> Batcher:
        engine = GenerateEngine(runtime, config, None)
        running.append(Batcher(engine, config, Supervisor()))
        return running[-1]

    yield make
    for batcher in running:
        batcher.close()


def _request(i: int = 0, timeout_s: float = 60, **sampling: object) -> GenerateRequest:
    settings = Sampling(**({"max_tokens": 10} | sampling))  # type: ignore[arg-type]
    message = Message("user", QUESTIONS[i % 3])
    return GenerateRequest(f"r{i}", "t", (message,), (PASSAGES[i % 6],), settings, timeout_s)


def _collect(chunks: Chunks) -> tuple[str, GenerateChunk]:
    text = ""
    while True:
        item = chunks.get(timeout=60)
        if isinstance(item, Exception):
            raise item
        text += item.text
        if item.finish_reason is not None:
            return text, item


@pytest.mark.parametrize(("interval_s", "pieces"), [(0.0, 10), (60.0, 2)])
def test_the_first_piece_comes_at_once_and_the_others_in_intervals(
    start: Start, interval_s: float, pieces: int
) -> None:
    batcher = start(GeneratorConfig(mode="full", stream_interval_s=interval_s))
    chunks: Chunks = queue.Queue()
    batcher.submit(_request(), chunks.put)
    got: list[GenerateChunk] = []
    while not got or got[-1].finish_reason is None:
        item = chunks.get(timeout=60)
        assert isinstance(item, GenerateChunk)
        got.append(item)
    assert len(got) == pieces and got[0].text
    assert (got[0].completion_tokens, got[-1].completion_tokens) == (1, 10)


def test_answers_are_the_same_alone_and_together(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=4))

    def ask(i: int) -> Chunks:
        chunks: Chunks = queue.Queue()
        batcher.submit(_request(i), chunks.put)
        return chunks

    alone = [_collect(ask(i))[0] for i in range(6)]
    waiting = [ask(i) for i in range(6)]
    assert [_collect(chunks)[0] for chunks in waiting] == alone


def test_the_last_chunk_counts_and_reports(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full"))
    chunks: Chunks = queue.Queue()
    batcher.submit(_request(max_tokens=3), chunks.put)
    _, last = _collect(chunks)
    assert (last.finish_reason, last.completion_tokens) == ("length", 3)
    assert last.prompt_tokens > 100 and last.ttft_s > 0
    assert last.cache is not None and last.cache.store == "off"


def test_a_stop_string_ends_the_answer_and_is_not_sent(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full"))
    plain: Chunks = queue.Queue()
    batcher.submit(_request(max_tokens=12), plain.put)
    text, _ = _collect(plain)
    stop = text[4:7]
    stopped: Chunks = queue.Queue()
    batcher.submit(_request(max_tokens=12, stop=(stop,)), stopped.put)
    cut, last = _collect(stopped)
    assert cut == text[: text.index(stop)] and last.finish_reason == "stop"


def test_a_full_queue_refuses_and_recovers(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=1, max_waiting=1))
    taken: list[Chunks] = []
    with pytest.raises(OverloadedError):
        for i in range(20):
            chunks: Chunks = queue.Queue()
            batcher.submit(_request(i), chunks.put)
            taken.append(chunks)
    assert all(_collect(chunks)[1].finish_reason for chunks in taken)


def test_requests_behind_others_wait_and_begin_when_their_turn_comes(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=1))
    assert not batcher.must_wait
    begun: list[int] = []
    answers: list[Chunks] = []
    for i, timeout_s in enumerate((60, 60, 0.001)):
        answers.append(queue.Queue())
        request = _request(i, timeout_s, max_tokens=3)
        job = batcher.submit(request, answers[-1].put, lambda i=i: begun.append(i))  # type: ignore[misc]
        if i == 1:
            batcher.cancel(job)
        assert batcher.must_wait
    assert _collect(answers[0])[1].finish_reason == "length"
    with pytest.raises(ExpiredError):
        _collect(answers[2])
    assert begun == [0, 1, 2] and not batcher.must_wait


def test_cancelled_requests_leave_the_batch_and_emit_nothing_more(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_new_tokens=512))
    chunks: Chunks = queue.Queue()
    job = batcher.submit(_request(max_tokens=500, temperature=1.5), chunks.put)
    chunks.get(timeout=60)
    batcher.cancel(job)
    deadline = time.monotonic() + 10
    while batcher.num_active and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batcher.num_active == 0


def test_expired_and_bad_requests_fail_alone(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full"))
    late: Chunks = queue.Queue()
    bad: Chunks = queue.Queue()
    good: Chunks = queue.Queue()
    batcher.submit(_request(timeout_s=0.0), late.put)
    batcher.submit(_request(max_tokens=0), bad.put)
    batcher.submit(_request(), good.put)
    with pytest.raises(ExpiredError):
        _collect(late)
    with pytest.raises(RequestError):
        _collect(bad)
    assert _collect(good)[0]


def test_other_work_runs_between_tokens_and_its_failure_ends_nothing(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", stream_interval_s=0))
    chunks: Chunks = queue.Queue()
    batcher.submit(_request(max_tokens=60), chunks.put)
    first = chunks.get(timeout=60)
    assert isinstance(first, GenerateChunk)
    assert batcher.run(lambda: batcher.num_active).result(60) == 1
    with pytest.raises(ZeroDivisionError):
        batcher.run(lambda: 1 // 0).result(60)
    _, last = _collect(chunks)
    assert last.completion_tokens == 60


def test_other_work_waits_in_the_same_bounded_queue(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_waiting=1))
    release, begun = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return release.wait(60)

    held = batcher.run(hold)
    assert begun.wait(60)
    waiting = batcher.run(lambda: None)
    with pytest.raises(OverloadedError):
        batcher.run(lambda: None)
    release.set()
    assert held.result(60) and waiting.result(60) is None


def test_the_meter_counts_requests_and_the_time_of_the_engine(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=2, max_waiting=1))
    began = time.monotonic()
    first, refused = queue.Queue(), 0  # type: ignore[var-annotated]
    for i in range(6):
        try:
            batcher.submit(_request(i), first.put)
        except OverloadedError:
            refused += 1
    ended = 0
    while ended < 6 - refused:
        item = first.get(timeout=60)
        ended += item.finish_reason is not None
    stats = batcher.meter.stats()
    assert (stats[ARRIVED], stats[COMPLETED], stats[WAITING]) == (6, 6 - refused, 0)
    assert refused and 0 < stats[BUSY_S] < time.monotonic() - began
