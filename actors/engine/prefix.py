"""Prefill with exact prefix reuse (ALGORITHMS 2: PCR, RAGCache).

The longest gap-free path that the store has is copied into the sequence's KV buffer; missing
passages are computed in one pass and stored for the next request. The question is always a pass of
its own: its shapes, and so its rounding, do not depend on what was stored, and a warm answer is the
cold one, token for token, in bf16 as well.
"""

from collections.abc import Sequence

from torch import Tensor

from actors.engine.lanes import Lane
from actors.engine.lease import Lease
from actors.engine.packed import Batch
from actors.engine.plan import Plan
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments, remaining
from actors.messages import CacheReport
from kvstore.types import Path, SegmentKey


class PrefixPrefill:
    """Without a store, a full prefill in one pass."""

    def __init__(self, runtime: Runtime, segments: Segments) -> None:
        self._decoder, self._slot = runtime.decoder, runtime.slot
        self._segments = segments

    def paths(self, plan: Plan) -> list[Path]:
        """What the store is asked for."""
        return [plan.path] if plan.path else []

    def prefill(self, plan: Plan, kv: Tensor, deadline: float) -> tuple[Tensor, CacheReport]:
        """Fill kv [L, 2, Hkv, capacity, dh] with the prompt's; hidden states [rows, d] of its end.
        Raises ExpiredError."""
        if not (plan.path and self._segments.on):
            return self._in_full(plan, kv)
        patient = True
        while True:
            remaining(deadline)
            with self._segments.lease([plan.path], deadline) as lease:
                if not (lease.waiting and patient):
                    return self._leased(plan, kv, lease)
            patient = self._segments.await_others(lease.waiting, deadline)

    def _in_full(self, plan: Plan, kv: Tensor) -> tuple[Tensor, CacheReport]:
        tokens = [token for piece in plan.pieces for token in piece] + list(plan.tail)
        report = CacheReport(computed=len(plan.path), tokens_computed=plan.num_tokens, store="off")
        return self._pass(tokens, kv, 0), report

    def _leased(self, plan: Plan, kv: Tensor, lease: Lease) -> tuple[Tensor, CacheReport]:
        num_hits, reused = self._load(plan, kv, lease)
        missing = [token for piece in plan.pieces[num_hits:] for token in piece]
        if missing:
            self._pass(missing, kv, reused)
        hidden = self._pass(plan.tail, kv, reused + len(missing))
        self._store(plan, kv, lease, num_hits)
        report = lease.hits([spec.key for spec in plan.path[:num_hits]])
        return hidden, report + CacheReport(
            computed=len(plan.path) - num_hits,
            tokens_computed=plan.num_tokens - reused,
            store=lease.store,
        )

    def _load(self, plan: Plan, kv: Tensor, lease: Lease) -> tuple[int, int]:
        """Copy the leading hits into the buffer; how many, and how many tokens."""
        at = count = 0
        for spec in plan.path:
            stored = lease.tensors.get(spec.key)
            if stored is None:
                break
            kv[:, :, :, at : at + stored.shape[3]].copy_(stored)
            at, count = at + stored.shape[3], count + 1
        # The copy is the last use: if an extent was reused under it, all is computed instead.
        return (count, at) if self._segments.unchanged(lease) else (0, 0)

    def _pass(self, tokens: Sequence[int], kv: Tensor, first: int) -> Tensor:
        """Compute these tokens behind the first `first`, whose KV is there."""
        sink = kv[:, :, :, first : first + len(tokens)]
        with self._slot.held():
            return self._decoder.forward(Batch([Lane(tokens, [kv[:, :, :, :first]], (sink,))]))

    def _store(self, plan: Plan, kv: Tensor, lease: Lease, num_hits: int) -> None:
        """Write the computed segments that are ours into their extents, and publish them."""
        at = sum(map(len, plan.pieces[:num_hits]))
        written: dict[SegmentKey, Tensor] = {}
        for spec in plan.path[num_hits:]:
            computed = kv[:, :, :, at : at + spec.layout.num_tokens]
            extent = self._segments.sink(lease, spec)
            if extent is not None:
                extent.copy_(computed)
                written[spec.key] = computed
            at += spec.layout.num_tokens
        self._segments.publish(lease, written)
