"""The least that a warm rerank can take with this model and these threads.

What reuse of KV cannot save: the rows that are computed, as if nothing preceded them; the output
head on the rows that are scored; and the bytes of the KV, each moved once.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from transformers import AutoModelForCausalLM

from actors.engine.config import ModelConfig
from actors.engine.lanes import Lane
from actors.engine.models import TORCH_DTYPES, Decoder
from actors.engine.packed import Batch
from actors.engine.weights import prepare


@dataclass(frozen=True, slots=True)
class Work:
    """What one warm request computes and reads."""

    lanes: int
    """Candidates."""
    rows: int
    """New tokens of each candidate."""
    scored: int
    """Of them, those whose next token is predicted."""
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class FloorTimes:
    """Seconds."""

    stock: float
    """The passes by transformers' own model."""
    decoder: float
    """The same by the engines' decoder."""
    head: float
    copy: float

    @property
    def total(self) -> float:
        return min(self.stock, self.decoder) + self.head + self.copy


class Floor:
    """Measures one request's floor, over random tokens."""

    def __init__(self, decoder: Decoder, stock: Any, work: Work) -> None:
        """`stock` is transformers' model of the same weights."""
        facts = decoder.model.config
        draw = torch.Generator().manual_seed(0)
        self._decoder, self._stock, self._work = decoder, stock, work
        self._ids = torch.randint(facts.vocab_size, (work.lanes, work.rows), generator=draw)
        scored = work.lanes * work.scored
        self._targets = torch.randint(facts.vocab_size, (scored,), generator=draw)
        dtype = TORCH_DTYPES[decoder.dtype]
        self._hidden = torch.randn(scored, facts.hidden_size, generator=draw).to(dtype)
        self._source = torch.zeros(work.kv_bytes, dtype=torch.uint8)
        self._target = torch.empty_like(self._source).copy_(self._source)

    def measure(self) -> FloorTimes:
        lanes = [Lane(ids) for ids in self._ids.tolist()]
        return FloorTimes(
            stock=_seconds(self._stock_passes),
            decoder=_seconds(lambda: self._decoder.forward(Batch(lanes))),
            head=_seconds(lambda: self._decoder.log_probs(self._hidden, self._targets)),
            copy=_seconds(lambda: self._target.copy_(self._source)),
        )

    @torch.inference_mode()
    def _stock_passes(self) -> None:
        self._stock.get_decoder()(input_ids=self._ids, use_cache=False)


@dataclass(slots=True)
class Counted:
    passes: list[int] = field(default_factory=list)
    """Rows of every pass."""


@contextmanager
def counted_rows() -> Iterator[Counted]:
    """Counts what decoders compute inside."""
    counted, forward = Counted(), Decoder.forward

    def counting(decoder: Decoder, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        counted.passes.append(batch.starts[-1])
        return forward(decoder, batch, *args, **kwargs)

    with mock.patch.object(Decoder, "forward", counting):
        yield counted


def stock_model(config: ModelConfig, decoder: Decoder) -> Any:
    """transformers' model of the same weights, with PyTorch's attention."""
    return AutoModelForCausalLM.from_pretrained(
        prepare(config.source, config.cache_dir),
        dtype=TORCH_DTYPES[decoder.dtype],
        attn_implementation="sdpa",
    ).eval()


def above_floor(seconds: Sequence[float], floors: Sequence[FloorTimes]) -> float:
    """Median of (time - floor) / floor over repetitions."""
    pairs = zip(seconds, floors, strict=True)
    return statistics.median((time - floor.total) / floor.total for time, floor in pairs)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
