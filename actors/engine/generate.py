"""Prefill with exact prefix reuse, and batched decoding (ALGORITHMS 2: PCR, RAGCache).

The prompt is a chain of segments: system prefix, passages in order, then the question. The longest
gap-free path that the store has is copied into the sequence's KV buffer; missing passages are
computed in one pass and stored for the next request. The question is always a pass of its own: its
shapes, and so its rounding, do not depend on what was stored, and a warm answer is the cold one,
token for token, in bf16 as well.
"""

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from torch import Tensor

from actors.engine.config import GeneratorConfig
from actors.engine.device import create_device_tier
from actors.engine.lanes import Lane
from actors.engine.lease import Lease
from actors.engine.packed import Batch
from actors.engine.runtime import Runtime
from actors.engine.sampling import Sampler, TextStream, validate
from actors.engine.segments import Segments, remaining
from actors.errors import RequestError
from actors.messages import CacheReport, GenerateRequest
from kvstore.client import StoreClient
from kvstore.keys import make_path, root_digest, tag
from kvstore.types import Path, SegmentKey, TierStats

Tokens = tuple[int, ...]


@dataclass(slots=True)
class Sequence:
    """One answer in the making. `kv` [L, 2, Hkv, capacity, dh] holds the first `length` tokens."""

    kv: Tensor
    length: int
    last: int
    """Newest token; its KV is not computed yet."""
    num_prompt: int
    num_new: int
    sampler: Sampler
    text: TextStream
    cache: CacheReport

    def lane(self) -> Lane:
        n = self.length
        return Lane(
            [self.last],
            past=[self.kv[:, :, :, :n]],
            sinks=(self.kv[:, :, :, n : n + 1],),
            joined=self.kv[:, :, :, : n + 1],
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    """A prompt as pieces: those with a path are segments of the store, the tail never is."""

    pieces: tuple[Tokens, ...]
    path: Path
    tail: Tokens

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.pieces)) + len(self.tail)


class GenerateEngine:
    """Starts and advances sequences. For one engine thread."""

    def __init__(
        self, runtime: Runtime, config: GeneratorConfig, store: StoreClient | None
    ) -> None:
        self._decoder, self._prompt, self._slot = runtime.decoder, runtime.prompt, runtime.slot
        self._config = config
        client = store if config.mode == "prefix" else None
        tier = create_device_tier(client, self._decoder.device, config.device_tier)
        self._segments = Segments(client, tier)
        self._tokenizer = self._decoder.tokenizer.backend_tokenizer

    def start(self, request: GenerateRequest, deadline: float) -> Sequence:
        """Prefill and pick the first token. Raises RequestError, ExpiredError."""
        validate(request.sampling, self._config.max_new_tokens)
        plan = self._plan(request)
        kv = self._decoder.empty_kv(plan.num_tokens + request.sampling.max_tokens)
        hidden, report = self._prefill(plan, kv, deadline)
        sampler = Sampler(request.sampling)
        return Sequence(
            kv=kv,
            length=plan.num_tokens,
            last=sampler.pick(self._decoder.logits(hidden[-1:])[0]),
            num_prompt=plan.num_tokens,
            num_new=1,
            sampler=sampler,
            text=TextStream(self._tokenizer, request.sampling.stop),
            cache=report,
        )

    def step(self, sequences: Seq[Sequence]) -> None:
        """One more token for every sequence, in one packed pass."""
        with self._slot.held():
            hidden = self._decoder.forward(Batch([s.lane() for s in sequences]))
            logits = self._decoder.logits(hidden)
        for sequence, row in zip(sequences, logits, strict=True):
            sequence.last = sequence.sampler.pick(row)
            sequence.length += 1
            sequence.num_new += 1

    def ends(self, token: int) -> bool:
        return token in self._decoder.eos_ids

    def announce(self, request_id: str, request: GenerateRequest) -> None:
        """Tell the store what a request that waits will need. From any thread."""
        path = self._plan(request).path
        if path:
            self._segments.announce(request_id, [path], request.timeout_s)

    def retire(self, request_id: str) -> None:
        """It is served now, or has gone. From any thread; idempotent."""
        self._segments.retire(request_id)

    def device_stats(self) -> TierStats:
        """Of the device tier. From any thread."""
        return self._segments.stats()

    def forget(self, tenant: str, texts: Seq[str]) -> int:
        """Remove the stored segments of passages that no longer exist; how many went."""
        root = root_digest(self._decoder.fingerprint, tenant)
        return self._segments.forget([tag(root, self._prompt.passage(t)) for t in texts])

    def _plan(self, request: GenerateRequest) -> _Plan:
        if request.raw_prompt is not None:
            plan = _Plan((), (), self._prompt.raw(request.raw_prompt))
            field = "prompt"
        else:
            prefix, tail = self._prompt.conversation(request.messages)
            pieces = (prefix, *(self._prompt.passage(t) for t in request.passages))
            root = root_digest(self._decoder.fingerprint, request.tenant)
            plan = _Plan(pieces, make_path(root, pieces, self._decoder.layout), tail)
            field = "messages"
        if not plan.tail:
            raise RequestError(field, "must not be empty")
        room = min(self._config.max_context_tokens, self._decoder.max_positions)
        room -= request.sampling.max_tokens
        if plan.num_tokens > room:
            passages = sum(map(len, plan.pieces[1:]))
            raise RequestError(
                field,
                f"prompt has {plan.num_tokens} tokens, {passages} of them passages; at most {room} "
                f"are allowed with max_tokens {request.sampling.max_tokens}",
            )
        return plan

    def _prefill(self, plan: _Plan, kv: Tensor, deadline: float) -> tuple[Tensor, CacheReport]:
        if not plan.path:
            return self._compute(plan, kv, 0), CacheReport(
                tokens_computed=plan.num_tokens, store="off"
            )
        patient = True
        while True:
            remaining(deadline)
            with self._segments.lease([plan.path], deadline) as lease:
                if not (lease.waiting and patient):
                    return self._prefill_leased(plan, kv, lease)
            patient = self._segments.await_others(lease.waiting, deadline)

    def _prefill_leased(self, plan: _Plan, kv: Tensor, lease: Lease) -> tuple[Tensor, CacheReport]:
        num_hits, reused = self._load(plan, kv, lease)
        hidden = self._compute(plan, kv, num_hits)
        self._store(plan, kv, lease, num_hits)
        report = lease.hits([spec.key for spec in plan.path[:num_hits]])
        return hidden, report + CacheReport(
            computed=len(plan.path) - num_hits,
            tokens_computed=plan.num_tokens - reused,
            store=lease.store,
        )

    def _load(self, plan: _Plan, kv: Tensor, lease: Lease) -> tuple[int, int]:
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

    def _compute(self, plan: _Plan, kv: Tensor, num_hits: int) -> Tensor:
        """Hidden states [rows, d] of what no segment covers; KV of all behind the hits."""
        first = sum(map(len, plan.pieces[:num_hits]))
        missing = [t for piece in plan.pieces[num_hits:] for t in piece]
        if not self._segments.on:
            return self._pass(missing + list(plan.tail), kv, first)
        if missing:
            self._pass(missing, kv, first)
        return self._pass(plan.tail, kv, first + len(missing))

    def _pass(self, tokens: Seq[int], kv: Tensor, first: int) -> Tensor:
        """Compute these tokens behind the first `first`, whose KV is there."""
        sink = kv[:, :, :, first : first + len(tokens)]
        with self._slot.held():
            return self._decoder.forward(Batch([Lane(tokens, [kv[:, :, :, :first]], (sink,))]))

    def _store(self, plan: _Plan, kv: Tensor, lease: Lease, num_hits: int) -> None:
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
