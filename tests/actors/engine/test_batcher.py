import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from actors.engine.batcher import Batcher
from actors.engine.config import GeneratorConfig
from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.runtime import Runtime
from actors.errors import ExpiredError, OverloadedError, RequestError, UnavailableError
from actors.messages import GenerateChunk, GenerateRequest, Message, Sampling, TokenLogprob
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


WISHES = (
    Sampling(5),
    Sampling(5, temperature=0.9, seed=3, top_k=5),
    Sampling(5, temperature=0.9, seed=3, min_p=0.2),
    Sampling(5, repetition_penalty=2.0),
    Sampling(5, presence_penalty=2.0, frequency_penalty=2.0),
)


def test_every_row_of_a_batch_is_sampled_as_if_it_were_alone(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=8))

    def ask(wish: Sampling) -> Chunks:
        chunks: Chunks = queue.Queue()
        batcher.submit(replace(_request(timeout_s=600), sampling=wish), chunks.put)
        return chunks

    alone = [_collect(ask(wish))[0] for wish in WISHES]
    together = [ask(wish) for wish in (*WISHES, Sampling(5, logit_bias=((10**6, 1.0),)))]
    assert [_collect(chunks)[0] for chunks in together[:-1]] == alone
    with pytest.raises(RequestError, match="logit_bias"):
        _collect(together[-1])
    assert len(set(alone)) >= 3, "the wishes change something"


def test_log_probabilities_come_with_their_tokens(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full"))
    chunks: Chunks = queue.Queue()
    batcher.submit(_request(max_tokens=5, logprobs=2), chunks.put)
    told: list[TokenLogprob] = []
    text, reason, num = "", None, 0
    while reason is None:
        item = chunks.get(timeout=60)
        assert isinstance(item, GenerateChunk)
        text, told = text + item.text, [*told, *item.logprobs]
        reason, num = item.finish_reason, item.completion_tokens
    assert b"".join(one.bytes for one in told).decode() == "".join(t.token for t in told) == text
    assert len(told) == num
    for one in told:
        assert one.top[0].logprob == one.logprob <= 0, "greedy takes the likeliest"
        assert one.top[0].token == one.token and one.top[1].logprob <= one.logprob
        assert len(one.top) == 2 and not one.top[0].top


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
    assert begun == [0, 2] and not batcher.must_wait


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


def test_cancelled_requests_take_no_place_in_the_queue(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=1, max_waiting=4))
    release, begun = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return release.wait(60)

    held = batcher.run(hold)
    assert begun.wait(60)
    silent: Chunks = queue.Queue()
    for _ in range(3):
        for job in [batcher.submit(_request(), silent.put) for _ in range(4)]:
            batcher.cancel(job)
    assert batcher.num_waiting == batcher.meter.stats()[WAITING] == 0
    chunks: Chunks = queue.Queue()
    batcher.submit(_request(max_tokens=2), chunks.put)
    release.set()
    assert held.result(60) and _collect(chunks)[1].completion_tokens == 2
    assert silent.empty()


def _no_numbers(sequence: Sequence) -> None:
    sequence.kv.fill_(float("nan"))


def _kv_of_another_shape(sequence: Sequence) -> None:
    sequence.kv = sequence.kv[:, :, :, :, :8]


def _no_text(sequence: Sequence) -> None:
    sequence.text.push = sequence.text.flush = None  # type: ignore[assignment,method-assign]


@pytest.mark.parametrize("spoil", [_no_numbers, _kv_of_another_shape, _no_text])
def test_what_fails_for_one_ends_that_one_alone(
    runtime: Runtime, spoil: Callable[[Sequence], None]
) -> None:
    config = GeneratorConfig(mode="full", max_batch=4)
    engine = GenerateEngine(runtime, config, None)
    begin = engine.start

    def start(request: GenerateRequest, *rest: Any) -> Sequence:
        sequence = begin(request, *rest)
        if request.request_id == "r1":
            spoil(sequence)
        return sequence

    batcher = Batcher(engine, config, Supervisor())
    answers: list[Chunks] = [queue.Queue() for _ in range(8)]

    def ask(i: int, chunks: Chunks) -> None:
        batcher.submit(_request(i, seed=i, temperature=0.7), chunks.put)

    for i in (0, 2, 3):
        ask(i, answers[i])
    alone = {i: _collect(answers[i])[0] for i in (0, 2, 3)}
    engine.start = start  # type: ignore[assignment,method-assign]
    for i in range(4):
        ask(i, answers[4 + i])
    assert {i: _collect(answers[4 + i])[0] for i in (0, 2, 3)} == alone
    with pytest.raises(UnavailableError):
        _collect(answers[5])
    assert batcher.alive
    batcher.close()


def test_who_does_not_take_an_answer_hurts_nobody_else(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=2, stream_interval_s=0))

    def refuse(item: GenerateChunk | Exception) -> None:
        raise RuntimeError("Event loop is closed")

    chunks: Chunks = queue.Queue()
    batcher.submit(_request(0), refuse)
    batcher.submit(_request(1), chunks.put)
    assert _collect(chunks)[1].completion_tokens == 10
    assert batcher.alive and batcher.num_active == 0


def test_closing_tells_who_is_answered_and_who_waits(start: Start) -> None:
    batcher = start(GeneratorConfig(mode="full", max_batch=1, max_new_tokens=512))
    answers: list[Chunks] = [queue.Queue(), queue.Queue()]
    for chunks in answers:
        batcher.submit(_request(max_tokens=500, temperature=1.5), chunks.put)
    assert isinstance(answers[0].get(timeout=60), GenerateChunk)
    batcher.close()
    for chunks in answers:
        with pytest.raises(UnavailableError, match="stopped"):
            _collect(chunks)
    with pytest.raises(UnavailableError):
        batcher.submit(_request(), answers[0].put)


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
