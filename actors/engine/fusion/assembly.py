"""Bringing passages together in one buffer, each turned to its place (ALGORITHMS 5.3 A).

A passage right behind the prefix comes as raw KV, which is exact there. The others come fused where
the request names a variant that the store has, else raw; raw KV that is missing is computed and
stored.
"""

import time
from dataclasses import dataclass, field

from torch import Tensor

from actors.engine.candidates import Candidate, CandidateSegments, Group
from actors.engine.chunks import PrefillChunks
from actors.engine.fusion.assembled import Assembled
from actors.engine.fusion.rotation import Rotation
from actors.engine.plan import Plan
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.keys import fused_path
from kvstore.types import Path

_PASS_TOKENS = 2048
"""Of missing passages that are computed together."""


class ChangedError(Exception):
    """Bytes of the store were reused while they were copied: compute everything instead."""


@dataclass(slots=True)
class Places:
    """Where passages go; the same one may stand at several places."""

    assembled: Assembled
    rotation: Rotation
    open: set[int] = field(init=False)
    """Passages, by number, whose KV is not in the buffer."""

    def __post_init__(self) -> None:
        self.open = set(range(len(self.assembled.passages)))

    def put(self, i: int, stored: Tensor) -> None:
        start, end = self.assembled.spans[i]
        place = self.assembled.kv[:, :, :, start:end]
        distance = start - len(self.assembled.prefix)
        if distance:
            self.rotation.move(stored[:, 0], distance, place[:, 0])
        else:
            place[:, 0] = stored[:, 0]
        place[:, 1] = stored[:, 1]
        self.open.remove(i)


class Assembler:
    """For one engine thread."""

    def __init__(
        self,
        runtime: Runtime,
        segments: Segments,
        rotation: Rotation,
        chunks: PrefillChunks | None = None,
    ) -> None:
        self._decoder, self._segments, self._rotation = runtime.decoder, segments, rotation
        self._chunks = chunks or PrefillChunks()
        self._candidates = CandidateSegments(
            runtime.decoder, segments, runtime.slot, _PASS_TOKENS, self._chunks
        )

    def paths(self, plan: Plan) -> list[Path]:
        """What the store will be asked for."""
        fused = self._fused(plan)
        raw = self._raw(plan)
        return [fused.get(i, candidate.path) for i, candidate in enumerate(raw)]

    def assemble(self, plan: Plan, kv: Tensor, deadline: float) -> tuple[Assembled, CacheReport]:
        """Prefix and passages in kv [L, 2, Hkv, capacity, dh], beside the history that is there.
        There is a passage. Raises ChangedError, ExpiredError."""
        history = tuple(token for piece in plan.lead[1:] for token in piece)
        assembled = Assembled(kv, plan.pieces[0], plan.passages, history)
        places = Places(assembled, self._rotation)
        report = self._put_fused(plan, places, deadline)
        raw = self._raw(plan)
        wanted = dict.fromkeys(raw[i] for i in sorted(places.open))
        for stage in self._candidates.stages(Group(list(wanted)), deadline):
            if not stage.arrive(self._decoder.layout.num_layers - 1):
                raise ChangedError
            began = time.monotonic()
            kv[:, :, :, : len(assembled.prefix)] = stage.prefix
            for candidate, (stored,) in stage.kvs.items():
                for i in [i for i in places.open if raw[i] == candidate]:
                    places.put(i, stored)
            if not stage.computed:  # a streamed lease answers before all is read: its wait is here
                keys = {candidate.key for candidate in stage.kvs}
                self._segments.loaded(stage.lease, keys, time.monotonic() - began)
            report += stage.report(stage.kvs)
            if not self._segments.unchanged(stage.lease):
                raise ChangedError
        return assembled, report

    def _put_fused(self, plan: Plan, places: Places, deadline: float) -> CacheReport:
        paths = self._fused(plan)
        if not paths:
            return CacheReport()
        with self._segments.lease(list(paths.values()), deadline, claim=False) as lease:
            began = time.monotonic()
            found = {i: lease.tensors.get(path[-1].key) for i, path in paths.items()}
            for i, stored in found.items():
                if stored is not None:
                    places.put(i, stored)
            if not self._segments.unchanged(lease):
                raise ChangedError
            put = {paths[i][-1].key for i in found if i not in places.open}
            self._segments.loaded(lease, put, time.monotonic() - began)
            return lease.hits(put)

    def _raw(self, plan: Plan) -> list[Candidate]:
        prefix, own = plan.pieces[0], plan.own_prefix
        return [self._candidates.candidate(plan.root, (prefix, p), own) for p in plan.passages]

    def _fused(self, plan: Plan) -> dict[int, Path]:
        """Of the passages that do not stand right behind the prefix, those with such a variant."""
        layout, own, prefix = self._decoder.layout, plan.own_prefix, plan.pieces[0]
        return {
            i: fused_path(plan.root, prefix, plan.passages[i], neighbours, layout, own)
            for i, neighbours in enumerate(plan.neighbours)
            if neighbours and (i or plan.num_history)
        }
