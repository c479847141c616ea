"""Requests as chains of pieces: from RAGPulse and Mooncake traces, and generated."""

import json
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path as FilePath
from typing import Any

from kvstore.types import Layout, Path, SegmentKey, SegmentSpec

LAYOUT = Layout(30, 3, 0, 64, "bfloat16")
"""Of SmolLM2-135M: 23 KB a token. Sizes only matter against capacities and bandwidth."""
MOONCAKE_BLOCK = 512
_TENANT = bytes(8)

Piece = tuple[str, int]
"""What it is, and its tokens; equal names mean equal content."""


@dataclass(frozen=True, slots=True)
class Request:
    at: float
    """Arrival, seconds."""
    path: Path
    """What can be reused: the pieces that begin the prompt, as a chain."""
    num_own: int
    """Tokens that follow them and are this request's alone."""

    @property
    def num_tokens(self) -> int:
        return sum(spec.layout.num_tokens for spec in self.path) + self.num_own


def chain(pieces: list[Piece]) -> Path:
    """Keys as the store makes them, from names instead of tokens."""
    path, parent, follows = list[SegmentSpec](), b"\0" * 32, b""
    for name, num_tokens in pieces:
        own = name.encode()
        digest = blake2b(parent + own, digest_size=32).digest()
        tag = blake2b(own, digest_size=8).digest()
        layout = replace(LAYOUT, num_tokens=num_tokens)
        key = SegmentKey(digest[:8], digest)
        path.append(SegmentSpec(key, parent, tag, _TENANT, layout, follows))
        parent, follows = digest, path[-1].followed_by
    return tuple(path)


def read_trace(file: FilePath) -> list[Request]:
    """Of either format, told apart by their fields. Raises ValueError that names the line."""
    with file.open(encoding="utf-8") as lines:
        found = [_read_line(file, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    return sorted(found, key=lambda request: request.at)


def _read_line(file: FilePath, number: int, line: str) -> Request:
    try:
        return _request(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}, line {number}: neither RAGPulse (t, sys_prompt, passages) nor Mooncake"
            f" (timestamp, input_length, hash_ids): {error!r}"
        ) from error


def _request(row: dict[str, Any]) -> Request:
    if "hash_ids" in row:
        return _mooncake(row)
    shared, own = row["sys_prompt"][:-1], row["sys_prompt"][-1:]  # the last block is new each time
    pieces = [(f"s{p['id']}", int(p["tokens"])) for p in shared]
    pieces += [(f"p{p['id']}", int(p["tokens"])) for p in row["passages"]]
    num_own = sum(int(p["tokens"]) for p in own) + int(row["history_tokens"])
    num_own += int(row["web_tokens"]) + int(row["user"]["tokens"])
    return Request(float(row["t"]), chain([p for p in pieces if p[1] > 0]), max(1, num_own))


def _mooncake(row: dict[str, Any]) -> Request:
    length, blocks = int(row["input_length"]), row["hash_ids"]
    whole = min(len(blocks), (length - 1) // MOONCAKE_BLOCK)  # the last token is always computed
    pieces = [(str(block), MOONCAKE_BLOCK) for block in blocks[:whole]]
    return Request(row["timestamp"] / 1000, chain(pieces), length - whole * MOONCAKE_BLOCK)


def zipf(
    num_requests: int, seed: int, num_documents: int = 3000, drift_every: int = 0
) -> list[Request]:
    """Two documents a question, drawn by Zipf's law with exponent 1 from documents of lognormal
    length (mean 800 tokens); with drift, 15 % of the ranks are dealt anew every so many requests.
    """
    rng = random.Random(seed)
    tokens = [max(16, int(rng.lognormvariate(6.5, 0.6))) for _ in range(num_documents)]
    by_rank = list(range(num_documents))
    edges = list(accumulate(1 / (rank + 1) for rank in range(num_documents)))
    requests = []
    for i in range(num_requests):
        if drift_every and i and i % drift_every == 0:
            _reshuffle(by_rank, rng)
        drawn = dict.fromkeys(_draw(by_rank, edges, rng))
        pieces = [("system", 64), *((f"d{document}", tokens[document]) for document in drawn)]
        requests.append(Request(float(i), chain(pieces), 32))
    return requests


def _draw(by_rank: list[int], edges: list[float], rng: random.Random) -> Iterator[int]:
    for _ in range(2):
        yield by_rank[bisect(edges, rng.random() * edges[-1])]


def _reshuffle(by_rank: list[int], rng: random.Random) -> None:
    moved = rng.sample(range(len(by_rank)), len(by_rank) * 15 // 100)
    dealt = [by_rank[rank] for rank in moved]
    rng.shuffle(dealt)
    for rank, document in zip(moved, dealt, strict=True):
        by_rank[rank] = document


def poisson(requests: list[Request], rate: float, seed: int) -> list[Request]:
    """The same requests in the same order, arriving at random with so many a second."""
    rng, now, out = random.Random(seed), 0.0, []
    for request in requests:
        now += rng.expovariate(rate)
        out.append(replace(request, at=now))
    return out
