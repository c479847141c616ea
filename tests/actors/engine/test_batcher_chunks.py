"""Running streams go on while the batcher admits a long prompt, and whatever becomes of it."""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from actors.engine.batcher import Batcher
from actors.engine.cache import RowBatch
from actors.engine.config import GeneratorConfig
from actors.engine.generate import GenerateEngine
from actors.engine.jobs import Job
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.together import Together
from actors.errors import UnavailableError
from actors.messages import GenerateChunk, GenerateRequest, Sampling
from kvstore.supervised import Supervisor
from tests.actors.engine.speaking import runtime_of, speaking

CHUNK = 50
PROMPT = 8 * CHUNK
STREAMED = 40
"""Tokens of the running stream: more than it gets while a prompt is admitted."""


@dataclass(frozen=True, slots=True)
class Pass:
    prompt: int
    """Rows of a prompt."""
    tokens: int
    """Rows of streams."""


class Bench:
    """A batcher over a tiny model, and the passes of its engine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[Pass] = []
        self.goes_on = threading.Event()
        """Streams have no token but the first before it is set."""
        self.goes_on.set()
        self.decodes = threading.Event()
        """One has come so far."""
        self.before: Callable[[list[Pass]], None] = lambda passes: None
        """Called before each pass, on the engine's thread, with those so far and this one."""
        forward = Decoder.forward

        def counted(decoder: Decoder, batch: RowBatch) -> torch.Tensor:
            made = _pass(batch)
            if made.tokens:
                self.decodes.set()
                assert self.goes_on.wait(60)
            self.passes.append(made)
            self.before(self.passes)
            return forward(decoder, batch)

        monkeypatch.setattr(Decoder, "forward", counted)
        runtime = runtime_of(speaking("llama")[0], folder)
        config = GeneratorConfig(mode="full", prefill_chunk_tokens=CHUNK, stream_interval_s=0)
        self.batcher = Batcher(GenerateEngine(runtime, config, None), config, Supervisor())

    def ask(self, name: str, num_prompt: int, max_tokens: int) -> tuple[Job, "Answer"]:
        answer = Answer()
        sampling = Sampling(max_tokens=max_tokens)
        word = " the"  # one token
        prompt = (name + word * num_prompt) if num_prompt else name
        asked = GenerateRequest(name, "t", (), (), sampling, 60, raw_prompt=prompt)
        return self.batcher.submit(asked, answer.items.put), answer

    def chunks(self) -> list[Pass]:
        """Those over prompts."""
        return [one for one in self.passes if one.prompt]

    def num_whole(self) -> int:
        """Passes over a whole chunk."""
        return sum(one.prompt == CHUNK for one in self.passes)


def _pass(batch: RowBatch) -> Pass:
    if isinstance(batch, Together):
        return Pass(batch.first.num_new, batch.second.num_new)
    assert isinstance(batch, Batch)
    decodes = batch.lanes[0].joined is not None
    return Pass(0, batch.num_new) if decodes else Pass(batch.num_new, 0)


class Answer:
    def __init__(self) -> None:
        self.items: queue.Queue[GenerateChunk | Exception] = queue.Queue()

    def text(self) -> str:
        found = ""
        while True:
            item = self.items.get(timeout=60)
            if isinstance(item, Exception):
                raise item
            found += item.text
            if item.finish_reason is not None:
                return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.batcher.close()


def alone(bench: Bench) -> str:
    """What the stream says when nothing is admitted meanwhile."""
    return bench.ask("stream", 0, STREAMED)[1].text()


def streaming(bench: Bench) -> Answer:
    """The same, when it has begun; it goes on when the test has asked for more."""
    bench.passes.clear()
    bench.goes_on.clear()
    bench.decodes.clear()
    _, stream = bench.ask("stream", 0, STREAMED)
    assert bench.decodes.wait(60)
    return stream


def test_a_stream_has_a_token_in_every_pass_of_a_prompt(bench: Bench) -> None:
    expected = alone(bench)
    prompt = bench.ask("prompt", PROMPT, 3)[1].text()
    assert max(one.prompt for one in bench.passes) > PROMPT, "nobody else decodes: one pass"
    stream = streaming(bench)
    _, answer = bench.ask("prompt", PROMPT, 3)
    bench.goes_on.set()
    assert answer.text() == prompt
    assert stream.text() == expected
    first, *chunks = bench.chunks()
    assert first.prompt < CHUNK and sum(one.prompt for one in chunks) > PROMPT
    assert max(one.prompt for one in chunks) == CHUNK
    assert all(one.tokens == 1 for one in chunks)


def test_prompts_that_wait_together_are_admitted_with_tokens_in_between(bench: Bench) -> None:
    stream = streaming(bench)
    answers = [bench.ask(f"prompt {i}", 0, 3)[1] for i in range(4)]
    bench.goes_on.set()
    assert all(answer.text() for answer in [*answers, stream])
    assert [one.tokens > 0 for one in bench.chunks()] == [False] + [True] * 4


def test_a_prompt_that_is_cancelled_between_two_passes_is_left_there(bench: Bench) -> None:
    expected = alone(bench)
    stream = streaming(bench)
    jobs: list[Job] = []

    def cancel(passes: list[Pass]) -> None:
        if bench.num_whole() == 2:
            bench.batcher.cancel(jobs[0])

    bench.before = cancel
    job, answer = bench.ask("prompt", PROMPT, 3)
    jobs.append(job)
    bench.goes_on.set()
    assert stream.text() == expected
    assert bench.num_whole() == 2 and answer.items.empty()
    bench.before = lambda passes: None
    assert alone(bench) == expected and bench.batcher.alive


def test_a_pass_that_fails_ends_its_own_request_alone(bench: Bench) -> None:
    expected = alone(bench)
    stream = streaming(bench)

    def fail(passes: list[Pass]) -> None:
        if passes[-1].prompt == CHUNK and bench.num_whole() >= 3:
            raise RuntimeError("out of memory")

    bench.before = fail
    _, answer = bench.ask("prompt", PROMPT, 3)
    bench.goes_on.set()
    with pytest.raises(UnavailableError, match="out of memory"):
        answer.text()
    assert stream.text() == expected
    assert bench.num_whole() == 4, "the third was tried with the stream's token and without"
    assert bench.batcher.alive


def test_a_stream_that_fails_in_a_pass_of_a_prompt_ends_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, prompt = alone(bench), bench.ask("prompt", PROMPT, 3)[1].text()
    long = 2 * STREAMED
    stream = streaming(bench)
    _, bad = bench.ask("bad", long, 200)
    keep = Batch.keep

    def kept(batch: Batch, layer: int, k: torch.Tensor, v: torch.Tensor) -> None:
        decoding = [lane.num_past for lane in batch.lanes if lane.joined is not None]
        if bench.num_whole() > 4 and any(long < size < PROMPT for size in decoding):
            raise RuntimeError("no such token")
        keep(batch, layer, k, v)

    monkeypatch.setattr(Batch, "keep", kept)
    _, answer = bench.ask("prompt", PROMPT, 3)
    bench.goes_on.set()
    with pytest.raises(UnavailableError, match="no such token"):
        bad.text()
    assert answer.text() == prompt
    assert stream.text() == expected
    assert bench.batcher.alive


def test_closing_ends_a_prompt_that_is_being_computed(bench: Bench) -> None:
    stream = streaming(bench)
    reached = threading.Event()
    bench.before = lambda passes: reached.set() if bench.num_whole() else None
    _, answer = bench.ask("prompt", PROMPT, 3)
    bench.goes_on.set()
    assert reached.wait(60)
    bench.batcher.close()
    for one in (answer, stream):
        with pytest.raises(UnavailableError, match="stopped"):
            one.text()
    assert len(bench.chunks()) < 1 + PROMPT // CHUNK
