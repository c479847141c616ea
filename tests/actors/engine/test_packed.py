"""Packed passes over stored KV give the logits of stock transformers, family by family."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch

from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch

Build = Callable[[], tuple[Decoder, Any]]
PREFIX = list(range(1, 8))
DOCS = [[(7 * i + j) % 120 + 1 for j in range(n)] for i, n in enumerate((1, 5, 13, 29))]
EVEN = [[(5 * i + j) % 120 + 1 for j in range(n)] for i, n in enumerate((21, 29, 25, 27))]
"""Filled well enough to go into one padded buffer."""
SUFFIX = [9, 8, 7, 6, 5]


@torch.inference_mode()
def _full(stock: Any, tokens: list[int]) -> torch.Tensor:
    logits: torch.Tensor = stock(torch.tensor([tokens])).logits[0].float()
    return logits


def _split(rows: torch.Tensor, sequences: list[list[int]]) -> list[torch.Tensor]:
    ends = list(accumulate(len(tokens) for tokens in sequences))
    return [rows[end - len(t) : end] for end, t in zip(ends, sequences, strict=True)]


def _assert_close(ours: torch.Tensor, full: torch.Tensor) -> None:
    assert (ours - full).abs().max() < 1e-4


def test_whole_sequences_in_one_pass(build_tiny: Build) -> None:
    decoder, stock = build_tiny()
    sequences = [PREFIX + doc + SUFFIX for doc in DOCS]
    hidden = decoder.forward(Batch([Lane(s) for s in sequences]))
    logits = _split(decoder.logits(hidden), sequences)
    for ours, tokens in zip(logits, sequences, strict=True):
        _assert_close(ours, _full(stock, tokens))


@pytest.mark.parametrize("docs", [DOCS, EVEN], ids=["ragged", "even"])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_question_over_shared_prefix_and_stored_passages(
    build_tiny: Build, docs: list[list[int]], with_prefix: bool
) -> None:
    decoder, stock = build_tiny()
    if not with_prefix:
        kvs = [decoder.empty_kv(len(doc)) for doc in docs]
        decoder.forward(Batch([Lane(d, sinks=(kv,)) for d, kv in zip(docs, kvs, strict=True)]))
        hidden = decoder.forward(Batch([Lane(SUFFIX, [kv]) for kv in kvs]))
        parts = _split(decoder.logits(hidden), [SUFFIX] * len(docs))
        for ours, doc in zip(parts, docs, strict=True):
            _assert_close(ours, _full(stock, doc + SUFFIX)[-len(SUFFIX) :])
        return
    prefix = decoder.empty_kv(len(PREFIX))
    decoder.forward(Batch([Lane(PREFIX, sinks=(prefix,))]))
    stored = [decoder.empty_kv(len(doc)) for doc in docs]
    lanes = [Lane(d, sinks=(kv,)) for d, kv in zip(docs, stored, strict=True)]
    decoder.forward(Batch(lanes, prefix))
    hidden = decoder.forward(Batch([Lane(SUFFIX, [kv]) for kv in stored], prefix))
    for ours, doc in zip(_split(decoder.logits(hidden), [SUFFIX] * len(docs)), docs, strict=True):
        _assert_close(ours, _full(stock, PREFIX + doc + SUFFIX)[-len(SUFFIX) :])


def test_lanes_of_different_lengths_share_a_pass(build_tiny: Build) -> None:
    decoder, stock = build_tiny()
    prefix = decoder.empty_kv(len(PREFIX))
    decoder.forward(Batch([Lane(PREFIX, sinks=(prefix,))]))
    suffixes = [SUFFIX[: i + 1] for i in range(4)]
    hidden = decoder.forward(Batch([Lane(s, [prefix]) for s in suffixes]))
    parts = _split(decoder.logits(hidden), suffixes)
    for ours, suffix in zip(parts, suffixes, strict=True):
        _assert_close(ours, _full(stock, PREFIX + suffix)[-len(suffix) :])


def test_decoding_token_by_token_in_one_buffer(build_tiny: Build) -> None:
    decoder, stock = build_tiny()
    tokens = PREFIX + DOCS[2] + SUFFIX
    buffers = [decoder.empty_kv(len(tokens)) for _ in range(2)]
    starts = (3, 9)
    for kv, start in zip(buffers, starts, strict=True):
        decoder.forward(Batch([Lane(tokens[:start], sinks=(kv[:, :, :, :start],))]))
    full = _full(stock, tokens)
    for offset in range(len(tokens) - max(starts)):
        lanes = []
        for kv, start in zip(buffers, starts, strict=True):
            n = start + offset
            new, joined = kv[:, :, :, n : n + 1], kv[:, :, :, : n + 1]
            lanes.append(Lane([tokens[n]], past=[kv[:, :, :, :n]], sinks=(new,), joined=joined))
        logits = decoder.logits(decoder.forward(Batch(lanes)))
        for row, start in zip(logits, starts, strict=True):
            _assert_close(row, full[start + offset])


def test_stored_kv_is_read_never_written(build_tiny: Build) -> None:
    decoder, _ = build_tiny()
    kv = decoder.empty_kv(len(PREFIX))
    decoder.forward(Batch([Lane(PREFIX, sinks=(kv,))]))
    before = kv.clone()
    decoder.forward(Batch([Lane(SUFFIX, [kv]), Lane(DOCS[1], [kv])]))
    assert torch.equal(kv, before)
