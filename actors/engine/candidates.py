"""The KV of candidates: prefix, passage and fixed suffix, from the store or computed here."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from actors.engine.chunks import PrefillChunks
from actors.engine.compute import ComputeSlot
from actors.engine.lanes import Lane, cut
from actors.engine.lease import Lease
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.plain_text import Tokens
from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.keys import make_path
from kvstore.types import Path, Root, SegmentKey, SegmentSpec


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage and what follows it for every question; a chain behind the prompt prefix."""

    pieces: tuple[Tokens, ...]
    """Prefix, passage, and the fixed suffix where there is one."""
    path: Path

    @property
    def passage(self) -> Tokens:
        return self.pieces[1]

    @property
    def prefix(self) -> SegmentSpec:
        return self.path[0]

    @property
    def key(self) -> SegmentKey:
        """Of the passage's segment."""
        return self.path[1].key


@dataclass(slots=True)
class Group:
    """Candidates of one tenant that are acquired together."""

    candidates: Sequence[Candidate]
    prefix: Tensor | None = None
    """Of the prompt prefix, where we hold it ourselves: there was no room in the store."""


@dataclass(slots=True)
class Stage:
    """Candidates whose KV is there while the lease holds."""

    lease: Lease
    prefix: Tensor
    kvs: dict[Candidate, list[Tensor]]
    """KV of passage and fixed suffix."""
    computed: set[SegmentKey] = field(default_factory=set)
    """Passages that were computed here for this stage, and that no question has accounted for."""
    arrive: Callable[[int], bool] = lambda layer: True
    """Waits for a layer of what is still being read; see Batch."""
    shared: set[SegmentKey] = field(default_factory=set)
    """Those that one has: for the next one they are hits."""

    def report(self, candidates: Iterable[Candidate]) -> CacheReport:
        """What became of the passages of one question."""
        keys = {candidate.key: len(candidate.passage) for candidate in candidates}
        computed, shared = keys.keys() & self.computed, keys.keys() & self.shared
        self.computed -= computed
        self.shared |= computed
        return self.lease.hits(keys.keys() - computed - shared) + CacheReport(
            dram_hits=len(shared),
            computed=len(computed),
            tokens_reused=sum(keys[key] for key in shared),
            tokens_computed=sum(keys[key] for key in computed),
        )


@dataclass(eq=False, slots=True)
class _Work:
    """What is missing of one candidate, behind what is there."""

    candidate: Candidate
    found: list[Tensor]
    missing: list[SegmentSpec] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        pieces = self.candidate.pieces[1 + len(self.found) :]
        return tuple(token for piece in pieces for token in piece)


class CandidateSegments:
    """Obtains groups of candidates; what is missing is computed in packed passes and stored."""

    def __init__(
        self,
        decoder: Decoder,
        segments: Segments,
        slot: ComputeSlot,
        batch_tokens: int,
        chunks: PrefillChunks | None = None,
    ) -> None:
        self._decoder, self._segments = decoder, segments
        self._slot, self._batch_tokens = slot, batch_tokens
        self._chunks = chunks or PrefillChunks()

    def candidate(
        self, root: Root, pieces: Sequence[Tokens], own_prefix: bool = False
    ) -> Candidate:
        """`pieces` are prefix, passage, fixed suffix; an empty suffix is left out. `own_prefix`:
        see `make_path`."""
        kept = tuple(piece for i, piece in enumerate(pieces) if i < 2 or piece)
        return Candidate(kept, make_path(root, kept, self._decoder.layout, own_prefix))

    def stages(self, group: Group, deadline: float) -> Generator[Stage]:
        """Every candidate once: first those that are there, then those that a slow tier is still
        reading, those that are computed here, at last those that another engine computes. A stage
        ends with the next one."""
        left, patient = list(group.candidates), True
        while left:
            paths = [candidate.path for candidate in left]
            with self._segments.lease(paths, deadline, streamed=True) as lease:
                done: set[SegmentKey] = set()
                for stage in self._leased(group, left, lease, alone=not patient):
                    done |= {candidate.key for candidate in stage.kvs}
                    yield stage
            left = [candidate for candidate in left if candidate.key not in done]
            patient = self._segments.await_others(lease.waiting, deadline) if left else True

    def _leased(
        self, group: Group, candidates: Sequence[Candidate], lease: Lease, alone: bool
    ) -> Iterator[Stage]:
        """With `alone`, also what another has claimed is computed, for ourselves."""
        prefix = self._prefix(group, candidates[0], lease, alone)
        if prefix is None:
            return  # another computes it: nothing can be computed behind it
        works = [self._work(candidate, lease) for candidate in candidates]
        whole = [work for work in works if not work.missing]
        coming = lease.arriving_keys
        arriving = [w for w in whole if any(spec.key in coming for spec in w.candidate.path)]
        there = [work for work in whole if work not in arriving]
        if there:
            yield Stage(lease, prefix, _kvs(there))
        if arriving:
            yield Stage(lease, prefix, _kvs(arriving), arrive=partial(self._arrive, lease))
        if not self._arrive(lease, self._decoder.layout.num_layers - 1):
            return  # what was found may be lost: acquire again
        ours = [work for work in works if work.missing and (alone or _is_ours(work, lease))]
        for part in self._passes(ours):
            self._compute(part, prefix, lease)
            computed = {w.candidate.key for w in part if w.candidate.path[1] in w.missing}
            yield Stage(lease, prefix, _kvs(part), computed)

    def _arrive(self, lease: Lease, layer: int) -> bool:
        return self._segments.await_layer(lease, layer)

    def _prefix(self, group: Group, first: Candidate, lease: Lease, alone: bool) -> Tensor | None:
        spec = first.prefix
        found = lease.tensors.get(spec.key)
        if found is not None:
            return found
        if group.prefix is None and (alone or spec.key not in lease.waiting):
            lane = Lane(first.pieces[0])
            self._fill([(lane, [spec])], None, lease)
            group.prefix = lane.sinks[0]
        return group.prefix

    def _work(self, candidate: Candidate, lease: Lease) -> _Work:
        """What is there is a head of the chain: the store evicts leaves first."""
        work = _Work(candidate, [])
        for spec in candidate.path[1:]:
            kv = lease.tensors.get(spec.key)
            if kv is None or work.missing:
                work.missing.append(spec)
            else:
                work.found.append(kv)
        return work

    def _passes(self, works: Sequence[_Work]) -> Iterator[list[_Work]]:
        part: list[_Work] = []
        rows = 0
        for work in works:
            if part and rows + len(work.tokens) > self._batch_tokens:
                yield part
                part, rows = [], 0
            part.append(work)
            rows += len(work.tokens)
        if part:
            yield part

    def _compute(self, works: Sequence[_Work], prefix: Tensor, lease: Lease) -> None:
        lanes = [(Lane(work.tokens, work.found), work.missing) for work in works]
        self._fill(lanes, prefix, lease)
        for work, (lane, _) in zip(works, lanes, strict=True):
            work.found = [*work.found, *lane.sinks]

    def _fill(
        self,
        lanes: Sequence[tuple[Lane, Sequence[SegmentSpec]]],
        prefix: Tensor | None,
        lease: Lease,
    ) -> None:
        """Compute the segments of lanes in one packed pass, unless others have their turns between
        several, into their extents where there is room, and publish those."""
        extents: dict[SegmentKey, tuple[Tensor, Tensor]] = {}
        for lane, specs in lanes:
            for spec in specs:
                extent = self._segments.sink(lease, spec)
                sink = self._decoder.sink(extent, spec.layout.num_tokens)
                lane.sinks = (*lane.sinks, sink)
                if extent is not None:
                    extents[spec.key] = extent, sink
        rows, invariant = [lane for lane, _ in lanes], self._decoder.invariant
        with self._slot.held():
            for start, end in self._chunks.passes(sum(len(lane.tokens) for lane in rows)):
                own, arrive = cut(rows, start, end), self._chunks.arrive
                batch = Batch(own, prefix, arrive=arrive, invariant=invariant)
                self._chunks.forward(self._decoder, batch)
        written = {key: sink for key, (_, sink) in extents.items()}
        for extent, sink in extents.values():
            if sink is not extent:
                extent.copy_(sink)
        lease.tensors |= written
        self._segments.publish(lease, written)


def _kvs(works: Sequence[_Work]) -> dict[Candidate, list[Tensor]]:
    return {work.candidate: work.found for work in works}


def _is_ours(work: _Work, lease: Lease) -> bool:
    """Whether nobody else is computing what is missing, nor what stands before it."""
    return not any(spec.key in lease.waiting for spec in work.missing)
