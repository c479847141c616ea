"""Requests over the sample passages, and the tokens that an engine answers them with."""

import time

from actors.engine.generate import GenerateEngine, Sequence
from actors.messages import GenerateRequest, Message, Sampling
from tests.actors.engine.texts import PASSAGES, QUESTIONS


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
