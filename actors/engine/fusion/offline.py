"""Passages computed in sight of their neighbours, ahead of questions (FusionRAG, Eq. 10)."""

import time
from collections.abc import Sequence

from torch import Tensor

from actors.engine.chunks import PrefillChunks
from actors.engine.fusion.assembly import Assembler, ChangedError
from actors.engine.fusion.rotation import Rotation
from actors.engine.lanes import behind
from actors.engine.lease import Lease
from actors.engine.packed import Batch
from actors.engine.plain_text import Tokens
from actors.engine.plan import Plan
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments, remaining
from actors.messages import CacheReport
from kvstore.keys import fused_path, make_root, neighbours_digest
from kvstore.types import Path, SegmentKey


class Fuser:
    """Makes fused segments. For the engine thread."""

    def __init__(
        self,
        runtime: Runtime,
        segments: Segments,
        max_tokens: int,
        rotation: Rotation,
        chunks: PrefillChunks | None = None,
    ) -> None:
        """`max_tokens`: of prefix, neighbours and passage together; neighbours beyond are left
        out, the farthest first."""
        self._decoder, self._prompt, self._slot = runtime.decoder, runtime.prompt, runtime.slot
        self._segments, self._max_tokens = segments, max_tokens
        self._rotation, self._chunks = rotation, chunks or PrefillChunks()
        self._assembler = Assembler(runtime, segments, rotation, self._chunks)

    def fuse(
        self, tenant: str, text: str, neighbours: Sequence[str], timeout_s: float
    ) -> CacheReport:
        """Store the passage `text` as it is behind its neighbours, nearest first, turned back to
        the place behind the prompt prefix. Nothing is done where it is there already, or where no
        neighbour fits.

        The report counts the fused segment alone. Raises ExpiredError.
        """
        deadline = time.monotonic() + timeout_s
        root, prefix = make_root(self._decoder.fingerprint, tenant), self._prompt.prefix
        passage, digest = self._prompt.passage(text), neighbours_digest(neighbours)
        path = fused_path(root, prefix, passage, digest, self._decoder.layout)
        with self._segments.lease([path], deadline, claim=False) as lease:
            if path[-1].key in lease.tensors:
                return lease.hits([path[-1].key])
        behind = self._fitting(neighbours, len(prefix) + len(passage))
        if not behind:
            return CacheReport()
        return self._computed(Plan(root, (prefix, *behind), (), (), ()), passage, path, deadline)

    def _fitting(self, neighbours: Sequence[str], num_tokens: int) -> list[Tokens]:
        room, kept = self._max_tokens - num_tokens, []
        for tokens in map(self._prompt.passage, neighbours):
            room -= len(tokens)
            if room < 0:
                break
            kept.append(tokens)
        return kept

    def _computed(self, plan: Plan, passage: Tokens, path: Path, deadline: float) -> CacheReport:
        kv = self._decoder.empty_kv(plan.num_tokens + len(passage))
        first = plan.num_tokens
        while True:
            try:
                self._assembler.assemble(plan, kv, deadline)
                break
            except ChangedError:
                remaining(deadline)
        past, own = kv[:, :, :, :first], kv[:, :, :, first:]
        with self._slot.held():
            for start, end in self._chunks.passes(len(passage)):
                lane = behind(kv, first + start, passage[start:end])
                self._chunks.forward(self._decoder, Batch([lane], arrive=self._chunks.arrive))
        num_prefix = len(plan.pieces[0])
        self._rotation.move(own[:, 0], num_prefix - first, out=own[:, 0])
        with self._segments.lease([path], deadline) as lease:
            self._store(path, (past[:, :, :, :num_prefix], own), lease)
            return CacheReport(computed=1, tokens_computed=len(passage), store=lease.store)

    def _store(self, path: Path, computed: Sequence[Tensor], lease: Lease) -> None:
        """What is there by now stays: another may have been faster."""
        written: dict[SegmentKey, Tensor] = {}
        for spec, kv in zip(path, computed, strict=True):
            extent = self._segments.sink(lease, spec)
            if extent is not None:
                written[spec.key] = extent.copy_(kv)
        self._segments.publish(lease, written)
