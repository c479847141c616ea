"""The KV of a group of candidates: prefix and passage each, from the store or computed here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from actors.engine.compute import ComputeSlot
from actors.engine.lease import Lease
from actors.engine.models import Decoder
from actors.engine.packed import Batch, Lane
from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.types import Path, SegmentKey, SegmentSpec

Tokens = tuple[int, ...]
Work = tuple[SegmentSpec, Tokens]


@dataclass(slots=True)
class Group:
    """Candidates that are scored in one pass: passages [n] and their chains (prefix, passage)."""

    passages: list[Tokens] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    ours: dict[SegmentKey, Tensor] = field(default_factory=dict)
    """KV that we hold ourselves: computed without the store, or without room in it."""
    report: CacheReport = CacheReport()
    """Of the passages; the prefix, the same for all, is left out."""
    counted: set[SegmentKey] = field(default_factory=set)

    def kv(self, lease: Lease, key: SegmentKey) -> Tensor | None:
        kv = lease.tensors.get(key)
        return self.ours.get(key) if kv is None else kv

    def missing(self, lease: Lease) -> list[SegmentSpec]:
        specs = dict.fromkeys(spec for path in self.paths for spec in path)
        return [spec for spec in specs if self.kv(lease, spec.key) is None]

    def count_hits(self, lease: Lease) -> None:
        keys = {path[1].key for path in self.paths} - self.counted
        self.report += lease.hits(keys)
        self.counted |= keys & lease.tensors.keys()

    def count_computed(self, work: Sequence[Work]) -> None:
        passages = [(spec, tokens) for spec, tokens in work if spec != self.paths[0][0]]
        self.counted |= {spec.key for spec, _ in passages}
        self.report += CacheReport(
            computed=len(passages), tokens_computed=sum(len(tokens) for _, tokens in passages)
        )


class CandidateSegments:
    """Obtains groups of candidates; what is missing is computed in packed passes and stored."""

    def __init__(
        self,
        decoder: Decoder,
        prefix: Tokens,
        segments: Segments,
        slot: ComputeSlot,
        batch_tokens: int,
    ) -> None:
        self._decoder, self._prefix, self._segments = decoder, prefix, segments
        self._slot, self._batch_tokens = slot, batch_tokens

    @contextmanager
    def obtained(self, group: Group, deadline: float) -> Iterator[Lease]:
        """A lease under which the KV of every candidate is there."""
        patient = True
        while True:
            with self._segments.lease(group.paths, deadline) as lease:
                group.count_hits(lease)
                self._compute(group, lease, alone=not patient)
                if not group.missing(lease):
                    yield lease
                    return
            patient = self._segments.await_others(lease.waiting, deadline)

    def _compute(self, group: Group, lease: Lease, alone: bool) -> None:
        """Compute what is ours; with `alone`, also what another has claimed, for ourselves."""
        needed = group.missing(lease)
        if not alone:
            needed = [spec for spec in needed if spec.key not in lease.waiting]
        first = group.paths[0][0]
        if first in needed:
            self._prefill(group, lease, [(first, self._prefix)], None)
        if group.kv(lease, first.key) is None:
            return  # another computes the prefix: nothing can be computed behind it
        prefix = self.kv(group, lease, first.key)
        work = [
            (s, p)
            for path, p in zip(group.paths, group.passages, strict=True)
            if (s := path[1]) in needed
        ]
        for part in self._passes(work):
            self._prefill(group, lease, part, prefix)

    def _passes(self, work: Sequence[Work]) -> Iterator[list[Work]]:
        part: list[Work] = []
        for spec, tokens in work:
            if part and sum(len(t) for _, t in part) + len(tokens) > self._batch_tokens:
                yield part
                part = []
            part.append((spec, tokens))
        if part:
            yield part

    def _prefill(
        self, group: Group, lease: Lease, work: Sequence[Work], prefix: Tensor | None
    ) -> None:
        """Compute segments in one packed pass, into their extents where there is room."""
        lanes, extents = [], []
        for spec, tokens in work:
            extents.append(self._segments.sink(lease, spec))
            sink = self._decoder.sink(extents[-1], len(tokens))
            lanes.append(Lane(tokens, sink=sink))
        with self._slot.held():
            self._decoder.forward(Batch(lanes, prefix))
        written: dict[SegmentKey, Tensor] = {}
        for (spec, _), lane, extent in zip(work, lanes, extents, strict=True):
            assert lane.sink is not None
            if extent is None:
                group.ours[spec.key] = lane.sink
            else:
                if lane.sink is not extent:
                    extent.copy_(lane.sink)
                lease.tensors[spec.key] = written[spec.key] = lane.sink
        self._segments.publish(lease, written)
        group.count_computed(work)

    def kv(self, group: Group, lease: Lease, key: SegmentKey) -> Tensor:
        kv = group.kv(lease, key)
        assert kv is not None, key
        return self._decoder.on_device(kv)
