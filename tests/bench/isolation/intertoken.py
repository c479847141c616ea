"""The time between two tokens of a running stream while a long prompt is admitted.

One repetition of an arm: a stream decodes, 60 tokens of it are quiet, then a prompt that nobody
has asked for is admitted. Quiet and admitted tokens are compared within the repetition, arms
take turns, and a figure is the median over repetitions: the host may be shared. The price is the
time to the first token of a prompt that is cut, relative to one that is not.
"""

import random
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from actors.engine.batcher import Batcher
from actors.engine.config import GeneratorConfig, ModelConfig
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.config import GIB, StoreConfig
from kvstore.supervised import Supervisor
from tests.bench.engines import Bench, bench
from tests.bench.harness import Options, tracked
from tests.bench.isolation.poisons import Item
from tests.bench.rerank_reuse import words

PROMPT_TOKENS = 4096
USUAL_TOKENS = 1500
"""Of a prompt that the price is measured with: the best three passages, or a conversation."""
QUIET_TOKENS = 60
_PASSAGE_TOKENS = 270
_STREAMED = 480
_WHOLE = 1 << 20
"""Tokens of a chunk that no prompt exceeds."""
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Times:
    """Of one repetition."""

    quiet_s: Sequence[float]
    """Between two tokens of the stream."""
    admitted_s: Sequence[float]
    """The same while the prompt was admitted."""
    ttft_s: float
    """Of the prompt."""

    @property
    def ratio(self) -> float:
        return p99(self.admitted_s) / p99(self.quiet_s)


@dataclass(slots=True)
class Stream:
    """When each piece of an answer came."""

    at: list[float] = field(default_factory=list)
    ended: Exception | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, item: Item) -> None:
        with self.changed:
            self.at.append(time.perf_counter())
            self.ended = item if isinstance(item, Exception) else self.ended
            self.changed.notify_all()

    def await_pieces(self, num: int) -> None:
        """When so many have come."""
        with self.changed:
            came = self.changed.wait_for(lambda: len(self.at) >= num or self.ended, _PATIENCE_S)
        assert came and self.ended is None, self.ended


def p99(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 99))


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    default = GeneratorConfig().prefill_chunk_tokens
    repetitions = 1 if options.quick else 3
    sizes = (_WHOLE, default, *(() if options.quick else (default * 2,)))
    rng = random.Random(options.seed)
    times: dict[int, list[Times]] = defaultdict(list)
    firsts: dict[bool, list[float]] = defaultdict(list)
    with bench(ModelConfig(), StoreConfig(dram_bytes=4 * GIB)) as parts:
        endless = replace(parts.runtime.decoder, eos_ids=frozenset())
        parts.runtime = replace(parts.runtime, decoder=endless)
        _once(parts, default, rng, USUAL_TOKENS)  # warms up
        for _ in tracked(range(repetitions), "admissions"):
            for size in sizes:
                times[size].append(_once(parts, size, rng))
            for beside in (False, True):
                whole, cut = (
                    _once(parts, size, rng, USUAL_TOKENS, 4 if beside else 0).ttft_s
                    for size in (_WHOLE, default)
                )
                firsts[beside].append(cut / whole)
    ratios = {size: statistics.median(t.ratio for t in of) for size, of in times.items()}
    figures = {
        "intertoken_p99_ratio_unchunked": round(ratios[_WHOLE], 2),
        "intertoken_p99_ratio": round(ratios[default], 2),
        "ttft_ratio_beside": round(statistics.median(firsts[True]), 2),
        "ttft_ratio_alone": round(statistics.median(firsts[False]), 2),
    }
    return figures, [_row(size, of) for size, of in times.items()]


def _row(size: int, times: Sequence[Times]) -> dict[str, object]:
    ratios = [t.ratio for t in times]

    def median_ms(seconds: Sequence[float]) -> float:
        return round(1e3 * statistics.median(seconds), 1)

    return {
        "arm": "one pass" if size == _WHOLE else f"chunks of {size} tokens",
        "quiet_p99_ms": median_ms([p99(t.quiet_s) for t in times]),
        "admitted_p99_ms": median_ms([p99(t.admitted_s) for t in times]),
        "ttft_ms": median_ms([t.ttft_s for t in times]),
        "p99_ratio": round(statistics.median(ratios), 2),
        "min": round(min(ratios), 2),
        "max": round(max(ratios), 2),
        "repetitions": len(times),
    }


def _once(
    parts: Bench,
    size: int,
    rng: random.Random,
    prompt_tokens: int = PROMPT_TOKENS,
    quiet_tokens: int = QUIET_TOKENS,
) -> Times:
    """`size`: of a chunk. Without quiet tokens there is no stream."""
    with _batcher(parts, size) as batcher:
        stream, prompt = Stream(), Stream()
        if quiet_tokens:
            batcher.submit(_asked(parts, rng, 48, _STREAMED), stream.take)
            stream.await_pieces(quiet_tokens + 4)
        began = time.perf_counter()
        batcher.submit(_asked(parts, rng, prompt_tokens, 1), prompt.take)
        prompt.await_pieces(1)
        ended = prompt.at[0]
        if quiet_tokens:
            stream.await_pieces(1 + sum(at <= ended for at in stream.at))
        at = list(stream.at)
    gaps = list(pairwise(at[3:]))  # the first tokens still wait for the warm-up
    quiet = [b - a for a, b in gaps if b <= began]
    admitted = [b - a for a, b in gaps if b > began and a < ended]
    return Times(quiet, admitted, ended - began)


@contextmanager
def _batcher(parts: Bench, size: int) -> Iterator[Batcher]:
    config = GeneratorConfig(
        prefill_chunk_tokens=size,
        stream_interval_s=0,
        max_context_tokens=PROMPT_TOKENS + 512,
    )
    batcher = Batcher(parts.generator(config), config, Supervisor())
    try:
        yield batcher
    finally:
        batcher.close(timeout_s=60)


def _asked(parts: Bench, rng: random.Random, size: int, max_tokens: int) -> GenerateRequest:
    """A prompt of so many tokens, or a few less, of words that nobody has asked about."""
    prompt, decoder = parts.runtime.prompt, parts.runtime.decoder
    num = size // _PASSAGE_TOKENS
    question = words(decoder, rng, 32)
    prefix, middle, tail = prompt.conversation([Message("user", question)])
    left = size - len(prefix) - sum(map(len, middle)) - len(tail) - num * len(prompt.passage(""))
    passages = tuple(words(decoder, rng, left // num) for _ in range(num))
    sampling = Sampling(max_tokens=max_tokens)
    message = (Message("user", question),)
    return GenerateRequest("bench", "bench", message, passages, sampling, _PATIENCE_S)
