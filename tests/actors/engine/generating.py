"""Requests over the sample passages, and the tokens that an engine answers them with."""

import time
from dataclasses import dataclass

from actors.engine.generate import GenerateEngine, Sequence
from actors.messages import GenerateRequest, Message, Sampling
from tests.actors.engine.texts import PASSAGES, QUESTIONS


@dataclass(slots=True)
class Decoding:
    """Others that decode beside a prefill (`chunks.Others`), and are counted."""

    step_s: float = 0.0
    decoding_steps: int = 1 << 30
    """Then their answers are complete."""
    steps: int = 0
    checks: int = 0
    ended: Exception | None = None
    """What the prefill is told from `ended_after` checks on."""
    ended_after: int = 0

    @property
    def decoding(self) -> bool:
        return self.steps < self.decoding_steps

    def step(self) -> bool:
        self.steps += 1
        time.sleep(self.step_s)
        return True

    def check(self) -> None:
        self.checks += 1
        if self.ended is not None and self.checks > self.ended_after:
            raise self.ended


def request(*order: int) -> GenerateRequest:
    """A question over the passages of these numbers."""
    passages = tuple(PASSAGES[i] for i in order)
    question = (Message("user", QUESTIONS[0]),)
    return GenerateRequest("r", "t", question, passages, Sampling(max_tokens=9), 60)


def started(engine: GenerateEngine, *order: int) -> Sequence:
    return engine.start(request(*order), time.monotonic() + 60)


def decoded(engine: GenerateEngine, *sequences: Sequence, steps: int = 4) -> list[list[int]]:
    """Tokens of each, decoded together."""
    out = [[s.last] for s in sequences]
    for _ in range(steps):
        engine.step(list(sequences))
        for tokens, sequence in zip(out, sequences, strict=True):
            tokens.append(sequence.last)
    return out
