"""Candidates of random tokens whose KV is in a real store: prefix, passage, suffix."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from actors.engine.cuda import CascadeLane
from actors.engine.lease import Lease
from actors.engine.segments import Segments
from kvstore.keys import make_path, make_root
from kvstore.types import Path, SegmentSpec
from tests.gpu.rig import Rig

_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Tokens, and how many of them there are."""

    candidates: int = 100
    prefix: int = 24
    passage: int = 256
    suffix: int = 16
    """Stored, all but the last: its logits predict the question's first token."""
    question: int = 32

    @property
    def past(self) -> int:
        return self.prefix + self.passage + self.suffix - 1

    @property
    def rows(self) -> int:
        """Computed online: the suffix's last token and all but the question's last."""
        return self.candidates * self.question


class Candidates:
    """One set of candidates; another `number` gives others."""

    def __init__(self, rig: Rig, sizes: Sizes, number: int) -> None:
        self.rig, self.sizes = rig, sizes
        rng = random.Random(number)
        self._vocabulary = int(rig.model.config.vocab_size)
        self.prefix = self._random(rng, sizes.prefix)
        self.passages = [self._random(rng, sizes.passage) for _ in range(sizes.candidates)]
        self.suffix = self._random(rng, sizes.suffix)
        root = make_root(b"random" * 5 + b"00", "sets")  # one tenant: it may fill the store
        self.paths: list[Path] = [
            make_path(root, [self.prefix, passage, self.suffix[:-1]], rig.layout)
            for passage in self.passages
        ]

    def question(self, seed: int) -> list[int]:
        return self._random(random.Random(-seed - 1), self.sizes.question)

    @contextmanager
    def lease(self, segments: Segments) -> Iterator[Lease]:
        with segments.lease(self.paths, time.monotonic() + _DEADLINE_S) as lease:
            yield lease
            assert segments.unchanged(lease)

    def lanes(self, lease: Lease, question: Sequence[int]) -> list[CascadeLane]:
        tokens = [self.suffix[-1], *question[:-1]]
        kv = lease.tensors
        return [CascadeLane(tokens, [kv[spec.key] for spec in path]) for path in self.paths]

    def store(self, segments: Segments) -> None:
        """Compute what the store does not have, one kind of segment after the other."""
        with self.lease(segments) as lease:
            for depth, pieces in enumerate(([self.prefix], self.passages, None)):
                specs = list(dict.fromkeys(path[depth] for path in self.paths))
                missing = [n for n, spec in enumerate(specs) if spec.key in lease.tickets]
                tokens = pieces or [self.suffix[:-1]] * len(specs)
                self._compute(segments, lease, depth, [(n, tokens[n]) for n in missing], specs)

    def _compute(
        self,
        segments: Segments,
        lease: Lease,
        depth: int,
        work: Sequence[tuple[int, Sequence[int]]],
        specs: Sequence[SegmentSpec],
    ) -> None:
        if not work:
            return
        lanes = []
        for n, tokens in work:
            past = [lease.tensors[s.key].to(self.rig.device) for s in self.paths[n][:depth]]
            lanes.append(CascadeLane(tokens, past, [self.rig.empty_kv(len(tokens))]))
        self.rig.eager(lanes)
        written = {}
        for (n, _), lane in zip(work, lanes, strict=True):
            extent = segments.sink(lease, specs[n])
            assert extent is not None, "the store has room for the set"
            (sink,) = lane.sinks
            extent.copy_(sink)
            written[specs[n].key] = sink
        lease.tensors |= written
        segments.publish(lease, written)

    def _random(self, rng: random.Random, number: int) -> list[int]:
        return [rng.randrange(3, self._vocabulary) for _ in range(number)]


def full_ids(candidates: Candidates, question: Sequence[int]) -> Tensor:
    """[N, T] of full computation, without the question's last token."""
    tail = [*candidates.suffix, *question[:-1]]
    return torch.tensor([[*candidates.prefix, *p, *tail] for p in candidates.passages])
