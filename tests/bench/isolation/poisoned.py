"""200 requests of which one in ten is poisoned."""

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from actors.engine.batcher import Batcher
from actors.engine.config import EngineConfig, GeneratorConfig, ModelConfig, PromptConfig
from actors.engine.generate import GenerateEngine
from actors.engine.runtime import Runtime, load_runtime
from actors.messages import GenerateRequest, Sampling
from kvstore.supervised import Supervisor
from tests.actors.engine.speaking import byte_fallback, runtime_of, speaking
from tests.bench.harness import Options, tracked
from tests.bench.isolation.poisons import ALL, BYTES, Item, Poison

REQUESTS = 100
"""Over each of the two models."""
EVERY = 10
_QUESTIONS = 12
_NEW_TOKENS = 6
_OUTSTANDING = 24
_PATIENCE_S = 240.0


@dataclass(slots=True)
class Answer:
    """An innocent one's, taken on the engine's thread."""

    items: queue.Queue[Item] = field(default_factory=queue.Queue)

    def text(self) -> str | None:
        """None where it failed, or did not come."""
        found = ""
        while True:
            try:
                item = self.items.get(timeout=_PATIENCE_S)
            except queue.Empty:
                return None
            if isinstance(item, Exception):
                return None
            found += item.text
            if item.finish_reason is not None:
                return found


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    logging.disable(logging.ERROR)  # what poisoned requests end with is logged
    failed = dead = 0
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as folder:
        for name, runtime, poisons in _models(folder):
            failed_here, dead_here = _disturbed(name, runtime, poisons)
            failed, dead = failed + failed_here, dead + dead_here
            row = {"innocent_failed": failed_here, "threads_dead": dead_here}
            rows.append({"arm": f"{REQUESTS} requests, {name}", **row})
    logging.disable(logging.NOTSET)
    figures: dict[str, float] = {
        "requests": 2 * REQUESTS,
        "poisoned": 2 * REQUESTS // EVERY,
        "innocent_failed": failed,
        "threads_dead": dead,
    }
    return figures, rows


def _models(folder: str) -> list[tuple[str, Runtime, Sequence[Poison]]]:
    """In fp32, where an answer is the same alone and beside others."""
    config = ModelConfig(dtype="float32")
    real = load_runtime(config, PromptConfig(), EngineConfig(compute_slot=False), folder)
    tiny = runtime_of(speaking("llama", tokens=byte_fallback())[0], Path(folder))
    num = REQUESTS // EVERY
    return [
        (config.source, real, ALL[:num]),
        ("tiny, byte fallback", tiny, list(islice(cycle([*ALL[num:], *BYTES]), num))),
    ]


def _disturbed(name: str, runtime: Runtime, poisons: Sequence[Poison]) -> tuple[int, int]:
    """Innocent requests that failed, and threads that died."""
    config, threads = GeneratorConfig(mode="full"), Supervisor()
    batcher = Batcher(GenerateEngine(runtime, config, None), config, threads)
    try:
        alone = [_ask(batcher, _innocent(i)).text() for i in range(_QUESTIONS)]
        assert None not in alone, "requests fail without any that is poisoned"
        room = threading.Semaphore(_OUTSTANDING)
        answers: list[tuple[int, Answer]] = []
        for i in tracked(range(REQUESTS), name):
            if i % EVERY == EVERY // 2:
                _poison(batcher, poisons[i // EVERY], _innocent(i))
            elif room.acquire(timeout=_PATIENCE_S):
                answers.append((i, _ask(batcher, _innocent(i), room)))
        failed = sum(answer.text() != alone[i % _QUESTIONS] for i, answer in answers)
        failed += REQUESTS - REQUESTS // EVERY - len(answers)
        return failed, len(threads.gone()) + (not batcher.alive)
    finally:
        batcher.close()


def _innocent(i: int) -> GenerateRequest:
    prompt = f"Question {i % _QUESTIONS}: what is the sum of {i % _QUESTIONS} and seven? It is"
    sampling = Sampling(max_tokens=_NEW_TOKENS)
    return GenerateRequest(f"r{i}", "bench", (), (), sampling, _PATIENCE_S, raw_prompt=prompt)


def _ask(
    batcher: Batcher, request: GenerateRequest, room: threading.Semaphore | None = None
) -> Answer:
    answer = Answer()

    def take(item: Item) -> None:
        answer.items.put(item)
        if room is not None and getattr(item, "finish_reason", "error") is not None:
            room.release()

    batcher.submit(request, take)
    return answer


def _poison(batcher: Batcher, poison: Poison, request: GenerateRequest) -> None:
    known = threading.Event()

    def take(item: Item) -> None:
        known.wait(_PATIENCE_S)
        poison.take(batcher, job, item)

    job = batcher.submit(poison.spoil(request), take)
    known.set()
    poison.after(batcher, job)
