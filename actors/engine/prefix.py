"""Prefill with exact prefix reuse (ALGORITHMS 2: PCR, RAGCache).

The longest gap-free path that the store has is copied into the sequence's KV buffer; missing
passages are computed in one pass and stored for the next request. The question is always a pass of
its own: its shapes, and so its rounding, do not depend on what was stored, and a warm answer is the
cold one, token for token, in bf16 as well.

Exchanges of a conversation are stored, for its next turn. Passages behind them are of use to none
but who sends the same exchanges again, as a greeting or examples are sent: they are stored from the
second time on that a history comes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from torch import Tensor

from actors.engine.cache import LayerLostError
from actors.engine.chunks import PrefillChunks
from actors.engine.config import Overlap
from actors.engine.lanes import behind
from actors.engine.lease import Lease
from actors.engine.overlap import LayerClock, LayerCopies, Move
from actors.engine.pace import Pace
from actors.engine.packed import Batch
from actors.engine.plan import Plan
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments, remaining
from actors.engine.start import defer
from actors.messages import CacheReport
from kvstore.types import Path, SegmentKey

Arrive = Callable[[int], bool]


class PrefixPrefill:
    """Without a store, a full prefill. For one engine thread."""

    def __init__(
        self,
        runtime: Runtime,
        segments: Segments,
        overlap: Overlap = "none",
        chunks: PrefillChunks | None = None,
    ) -> None:
        self._decoder, self._slot = runtime.decoder, runtime.slot
        self._segments = segments
        both, device = overlap in ("both", "request"), runtime.decoder.device
        self._loads = LayerCopies("kv-load", both or overlap == "load", device)
        self._writes = LayerCopies("kv-write", both or overlap == "store", device)
        self._whole, self._pace = overlap == "request", Pace()
        self._chunks = chunks or PrefillChunks()

    def paths(self, plan: Plan) -> list[Path]:
        """What the store is asked for."""
        return [plan.path] if plan.path else []

    def prefill(self, plan: Plan, kv: Tensor, deadline: float) -> tuple[Tensor, CacheReport]:
        """Fill kv [L, 2, Hkv, capacity, dh] with the prompt's; hidden states [rows, d] of its end.
        Raises ExpiredError."""
        if not (plan.path and self._segments.on):
            return self._in_full(plan, kv)
        patient, streamed = True, self._loads.beside
        while True:
            remaining(deadline)
            with ExitStack() as held:
                lease = held.enter_context(
                    self._segments.lease([plan.path], deadline, streamed, brought=streamed)
                )
                if not (lease.waiting and patient):
                    return self._leased(plan, kv, lease, held)
            patient = self._segments.await_others(lease.waiting, deadline)

    def close(self) -> None:
        """When what moves beside the passes has arrived. Idempotent."""
        self._loads.close()
        self._writes.close()

    def _leased(
        self, plan: Plan, kv: Tensor, lease: Lease, held: ExitStack
    ) -> tuple[Tensor, CacheReport]:
        """`held` ends the lease: the write-back takes it over where that lasts longer."""
        hits = self._hits(plan, kv, lease)
        hidden = self._behind(hits, plan, kv, lease, held)
        if hidden is None:  # rare, and who comes next finds out what there is
            hits, (hidden, _) = {}, self._in_full(plan, kv)
        reused = sum(map(len, plan.pieces[: len(hits)]))
        report = lease.hits(hits.keys())
        return hidden, report + CacheReport(
            computed=len(plan.path) - len(hits),
            tokens_computed=plan.num_tokens - reused,
            store=lease.store,
            mode="prefix",
        )

    def _hits(self, plan: Plan, kv: Tensor, lease: Lease) -> dict[SegmentKey, Move]:
        """Of the leading segments that are there, or arriving, to their places in the buffer."""
        moves = {}
        at = 0
        for spec in plan.path:
            stored = lease.tensors.get(spec.key)
            if stored is None:
                break
            end = at + spec.layout.num_tokens
            moves[spec.key] = Move(stored, kv[:, :, :, at:end])
            at = end
        return moves

    def _behind(
        self,
        hits: Mapping[SegmentKey, Move],
        plan: Plan,
        kv: Tensor,
        lease: Lease,
        held: ExitStack,
    ) -> Tensor | None:
        """Compute what follows the hits; None where one was lost, or changed under its copy."""
        first = sum(move.source.shape[3] for move in hits.values())
        missing = [token for piece in plan.pieces[len(hits) :] for token in piece]
        copied = self._load(hits, lease)
        compute_s = self._pace.seconds(first, len(missing) + len(plan.tail))
        if lease.arriving:
            num_layers = self._decoder.layout.num_layers
            defer(copied, num_layers, compute_s, self._whole, self._chunks.step)
        began = self._chunks.clock()
        try:
            if missing:
                sinks = self._sinks(plan, kv, lease, len(hits))
                self._fill(missing, kv, first, copied, sinks, lease, held)
            hidden = self._pass(plan.tail, kv, first + len(missing), copied.wait)
        except LayerLostError:
            hidden = None
        except BaseException:
            copied.end(whole=False)  # nobody needs what is still on its way
            raise
        if not lease.arriving:  # else it may have waited
            self._pace.learn(compute_s, self._chunks.clock() - began)
        return hidden if copied.wait_end() else None

    def _load(self, hits: Mapping[SegmentKey, Move], lease: Lease) -> LayerClock:
        if not hits:
            nothing = LayerClock()
            nothing.reach(self._decoder.layout.num_layers)
            nothing.end(whole=True)
            return nothing

        began = time.monotonic()

        def done(whole: bool) -> None:
            if whole:  # before the write-back, which may end the lease
                self._segments.loaded(lease, hits.keys(), time.monotonic() - began)
                lease.brought = {key: move.target for key, move in hits.items()}

        return self._loads.begin(
            list(hits.values()),
            may_copy=lambda layer: self._segments.await_layer(lease, layer),
            is_valid=lambda: self._segments.unchanged(lease),
            done=done,
        )

    def _sinks(self, plan: Plan, kv: Tensor, lease: Lease, num_hits: int) -> dict[SegmentKey, Move]:
        """Of the segments that are ours to compute, from the buffer to their extents."""
        at = sum(map(len, plan.pieces[:num_hits]))
        num_lead, sinks = len(plan.lead), {}
        kept = num_lead if plan.num_history and num_hits < num_lead else len(plan.path)
        for spec in plan.path[num_hits:kept]:
            end = at + spec.layout.num_tokens
            extent = self._segments.sink(lease, spec)
            if extent is not None:
                sinks[spec.key] = Move(kv[:, :, :, at:end], extent)
            at = end
        return sinks

    def _fill(
        self,
        missing: Sequence[int],
        kv: Tensor,
        first: int,
        copied: LayerClock,
        sinks: Mapping[SegmentKey, Move],
        lease: Lease,
        held: ExitStack,
    ) -> None:
        """Compute passages into the buffer; what is to be kept is written back meanwhile."""
        computed, num_layers = self._writes.clock(), self._decoder.layout.num_layers
        if sinks and self._writes.beside:
            self._write(sinks, computed, lease, held.pop_all())

        def arrive(layer: int) -> bool:
            computed.reach(layer)  # whose keys and values are in the buffer by now
            return copied.wait(layer)

        try:
            self._pass(missing, kv, first, copied.wait, arrive)
            computed.reach(num_layers)
        finally:
            computed.end(whole=False)  # nothing more comes: without effect when all has come
        if sinks and not self._writes.beside:
            self._write(sinks, computed, lease, ExitStack())

    def _write(
        self,
        sinks: Mapping[SegmentKey, Move],
        computed: LayerClock,
        lease: Lease,
        held: ExitStack,
    ) -> None:
        def done(whole: bool) -> None:
            with held:
                if whole:
                    self._segments.publish(lease, {key: m.source for key, m in sinks.items()})

        self._writes.begin(list(sinks.values()), computed.wait, done=done)

    def _in_full(self, plan: Plan, kv: Tensor) -> tuple[Tensor, CacheReport]:
        tokens = [token for piece in plan.pieces for token in piece] + list(plan.tail)
        report = CacheReport(
            computed=len(plan.path), tokens_computed=plan.num_tokens, store="off", mode="full"
        )
        return self._pass(tokens, kv, 0), report

    def _pass(
        self,
        tokens: Sequence[int],
        kv: Tensor,
        first: int,
        arrive: Arrive = lambda layer: True,
        arrive_last: Arrive | None = None,
    ) -> Tensor:
        """Compute these tokens, if any, behind the first `first`, whose KV is there or arrives, in
        passes beside others; hidden states of the last ones. `arrive_last` is for the last pass."""
        hidden = kv.new_empty(0)
        with self._slot.held():
            for start, end in self._chunks.passes(len(tokens)):
                last = arrive_last if end == len(tokens) else None
                lane = behind(kv, first + start, tokens[start:end])
                batch = Batch([lane], arrive=partial(self._arrive, last or arrive))
                hidden = self._chunks.forward(self._decoder, batch)
        return hidden

    def _arrive(self, arrive: Arrive, layer: int) -> bool:
        return self._chunks.arrive(layer) and arrive(layer)
