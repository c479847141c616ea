"""Requests over the sample passages, and the tokens that an engine answers them with."""

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

from torch import Tensor

from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.lanes import Lane
from actors.messages import GenerateRequest, Message, Sampling
from tests.actors.engine.texts import PASSAGES, QUESTIONS


@dataclass(slots=True)
class Decoding:
    """Others that decode beside a prefill (`chunks.Others`), and are counted. With sequences of
    `engine` they have rows in its passes, without they only take turns."""

    engine: GenerateEngine | None = None
    sequences: Seq[Sequence] = ()
    step_s: float = 0.0
    decoding_steps: int = 1 << 30
    """Then their answers are complete."""
    steps: int = 0
    shared: int = 0
    """Those of the steps that were rows of a prefill's pass."""
    tokens: list[list[int]] = field(default_factory=list)
    """Of all sequences, step by step."""
    checks: int = 0
    ended: Exception | None = None
    """What the prefill is told from `ended_after` checks on."""
    ended_after: int = 0

    @classmethod
    def of(cls, engine: GenerateEngine) -> "Decoding":
        """Two answers under way, of different lengths."""
        return cls(engine, [continued(engine, prompt) for prompt in ("Once", "In the year of")])

    @property
    def decoding(self) -> bool:
        return self.steps < self.decoding_steps

    def step(self) -> bool:
        time.sleep(self.step_s)
        if self.engine is not None:
            self.engine.step(self.sequences)
        self._stepped()
        return True

    def lanes(self) -> list[Lane]:
        return [sequence.lane() for sequence in self.sequences if self.decoding]

    def take(self, hidden: Tensor) -> None:
        assert self.engine is not None
        self.engine.take(self.sequences, hidden)
        self.shared += 1
        self._stepped()

    def _stepped(self) -> None:
        self.steps += 1
        self.tokens.append([sequence.last for sequence in self.sequences])

    def check(self) -> None:
        self.checks += 1
        if self.ended is not None and self.checks > self.ended_after:
            raise self.ended


def continued(engine: GenerateEngine, prompt: str) -> Sequence:
    """An answer of up to 200 tokens."""
    sampling = Sampling(max_tokens=200)
    asked = GenerateRequest("r", "t", (), (), sampling, 60, raw_prompt=prompt)
    return engine.start(asked, time.monotonic() + 60)


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
