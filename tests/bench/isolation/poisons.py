"""Requests that are meant to hurt others."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from actors.engine.batcher import Batcher
from actors.engine.jobs import Job
from actors.messages import GenerateChunk, GenerateRequest

Item = GenerateChunk | Exception


@dataclass(frozen=True, slots=True)
class Poison:
    name: str
    spoil: Callable[[GenerateRequest], GenerateRequest] = lambda request: request
    after: Callable[[Batcher, Job], None] = lambda batcher, job: None
    """Done when it was submitted."""
    take: Callable[[Batcher, Job, Item], None] = lambda batcher, job, item: None
    """Takes each piece of its answer, on the engine's thread."""


def _sampled(**settings: Any) -> Callable[[GenerateRequest], GenerateRequest]:
    return lambda asked: replace(asked, sampling=replace(asked.sampling, **settings))


def _prompt(text: str) -> Callable[[GenerateRequest], GenerateRequest]:
    return lambda asked: replace(asked, raw_prompt=text)


def _cancel(batcher: Batcher, job: Job, *_: Item) -> None:
    batcher.cancel(job)


def _refuse(batcher: Batcher, job: Job, item: Item) -> None:
    raise RuntimeError("who asked is gone")


NUMBERS = (
    Poison("temperature 3.1e-38", _sampled(temperature=3.1e-38)),
    Poison("temperature 1e-45", _sampled(temperature=1e-45)),
    Poison("temperature NaN", _sampled(temperature=float("nan"))),
    Poison("top_p 1e-38", _sampled(temperature=2.0, top_p=1e-38)),
    Poison("seed 2**70", _sampled(seed=2**70)),
)
LENGTHS = (
    Poison("max_tokens 0", _sampled(max_tokens=0)),
    Poison("max_tokens 10**9", _sampled(max_tokens=10**9)),
    Poison("empty prompt", _prompt("")),
    Poison("prompt too long", _prompt("word " * 20_000)),
    Poison("long prompt", _prompt("s " * 600)),
    Poison("17 stops", _sampled(stop=("x",) * 17)),
)
CANCELLATIONS = (
    Poison("cancelled at once", after=_cancel),
    Poison("cancelled in its prompt", _prompt("s " * 600), after=_cancel),
    Poison("cancelled at its first token", _sampled(max_tokens=64), take=_cancel),
    Poison("no time", lambda asked: replace(asked, timeout_s=0.0)),
    Poison("nobody takes the answer", take=_refuse),
)
BYTES = tuple(
    Poison(f"any bytes, seed {seed}", _sampled(temperature=2.0, seed=seed, max_tokens=64))
    for seed in range(4)
)
ALL = (*NUMBERS, *LENGTHS, *CANCELLATIONS, *BYTES)
