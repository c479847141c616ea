"""Starting answers and decoding them together; how a prompt is prefilled is a strategy's matter."""

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from actors.engine.choice import AutoPrefill
from actors.engine.chunks import PrefillChunks
from actors.engine.config import GeneratorConfig
from actors.engine.device import DeviceTier, create_device_tier
from actors.engine.fusion.offline import Fuser
from actors.engine.fusion.prefill import FusionPrefill
from actors.engine.fusion.rotation import Rotation
from actors.engine.lanes import Lane
from actors.engine.ordering import canonical
from actors.engine.packed import Batch
from actors.engine.plan import Plan, Planner
from actors.engine.prefix import PrefixPrefill
from actors.engine.runtime import Runtime
from actors.engine.sampling import Sampler, TextStream, validate
from actors.engine.segments import Segments
from actors.engine.vocabulary import Vocabulary
from actors.errors import RequestError, UnavailableError
from actors.messages import (
    CacheReport,
    Cut,
    FitRequest,
    FusedSegment,
    GenerateRequest,
    Neighbourhood,
    TokenLogprob,
)
from kvstore.client import StoreClient
from kvstore.executor import DaemonExecutor
from kvstore.keys import fused_tag, make_root, tag
from kvstore.types import Path, TierStats


@dataclass(slots=True)
class Sequence:
    """One answer in the making. `kv` [L, 2, Hkv, capacity, dh] holds the first `length` tokens."""

    kv: Tensor
    length: int
    last: int
    """Newest token; its KV is not computed yet."""
    num_prompt: int
    num_new: int
    max_new: int
    sampler: Sampler
    text: TextStream
    cache: CacheReport
    num_left_out: int
    cuts: tuple[Cut, ...]
    """See GenerateChunk."""

    def lane(self) -> Lane:
        n = self.length
        return Lane(
            [self.last],
            past=[self.kv[:, :, :, :n]],
            sinks=(self.kv[:, :, :, n : n + 1],),
            joined=self.kv[:, :, :, : n + 1],
        )


class Prefill(Protocol):
    """How a prompt's KV comes about."""

    def paths(self, plan: Plan) -> list[Path]:
        """What the store will be asked for."""
        ...

    def prefill(self, plan: Plan, kv: Tensor, deadline: float) -> tuple[Tensor, CacheReport]:
        """Fill kv [L, 2, Hkv, capacity, dh] with the prompt's; hidden states [rows, d] of its end.
        Raises ExpiredError."""
        ...


class GenerateEngine:
    """Starts and advances sequences. For one engine thread."""

    def __init__(
        self,
        runtime: Runtime,
        config: GeneratorConfig,
        store: StoreClient | None,
        tier: DeviceTier | None = None,
    ) -> None:
        """`tier`: in place of the one that the configuration and the model's device ask for."""
        self._decoder, self._prompt, self._slot = runtime.decoder, runtime.prompt, runtime.slot
        self._config = config
        client = store if config.mode != "full" else None
        tier = tier or create_device_tier(client, self._decoder.device, config.device_tier)
        self._segments = Segments(client, tier)
        self._planner = Planner(self._decoder, self._prompt, config)
        self._texts = DaemonExecutor(1, "generator-texts")
        """Tokenizes: a long text would hold up who decodes."""
        self.chunks = PrefillChunks(config.prefill_chunk_tokens)
        """What is computed on this engine's thread, fused segments too, goes on beside the others
        by these."""
        exact = PrefixPrefill(runtime, self._segments, config.overlap, self.chunks)
        self._exact, self._prefill = exact, cast(Prefill, exact)
        self._fuser: Fuser | None = None
        if client is not None and config.mode in ("fusion", "auto"):
            room = min(config.max_context_tokens, self._decoder.max_positions)
            rotation, chunks = Rotation.of(self._decoder), self.chunks
            self._fuser = Fuser(runtime, self._segments, room, rotation, chunks)
            fusion = FusionPrefill(runtime, self._segments, exact, config.fusion, rotation, chunks)
            self._prefill = fusion
            if config.mode == "auto":
                self._prefill = AutoPrefill(
                    exact, fusion, self._segments, config.fusion, self.chunks
                )
        self._tokenizer = self._decoder.tokenizer.backend_tokenizer
        self._vocabulary = Vocabulary(self._decoder)

    def start(self, request: GenerateRequest, deadline: float) -> Sequence:
        """Prefill and pick the first token, beside others (`chunks`). Raises RequestError,
        ExpiredError."""
        validate(request.sampling, self._config.max_new_tokens, self._decoder.num_tokens)
        planned = self._texts.submit(self._planner.plan, request)
        plan = self._ordered(self.chunks.result(planned, deadline))
        grammar = None
        if request.sampling.json_schema or request.sampling.logprobs is not None:
            compiled = self._texts.submit(self._vocabulary.grammar, request.sampling.json_schema)
            grammar = self.chunks.result(compiled, deadline)
        kv = self._decoder.empty_kv(plan.num_tokens + plan.max_new)
        hidden, report = self._prefill.prefill(plan, kv, deadline)
        prompt = (token for piece in (*plan.pieces, plan.tail) for token in piece)
        sampler = Sampler(request.sampling, prompt, grammar)
        return Sequence(
            kv=kv,
            length=plan.num_tokens,
            last=sampler.pick(self._decoder.logits(hidden[-1:])[0]),
            num_prompt=plan.num_tokens,
            num_new=1,
            max_new=plan.max_new,
            sampler=sampler,
            text=TextStream(self._tokenizer, request.sampling.stop),
            cache=report,
            num_left_out=plan.num_left_out,
            cuts=plan.cuts,
        )

    def step(self, sequences: Seq[Sequence]) -> dict[int, UnavailableError]:
        """One more token for every sequence, in one packed pass; by index, the errors of those
        that got none because their logits are no numbers. When the pass itself raises, no sequence
        has changed."""
        with self._slot.held():
            hidden = self._decoder.forward(Batch([s.lane() for s in sequences]))
            return self.take(sequences, hidden)

    def take(self, sequences: Seq[Sequence], hidden: Tensor) -> dict[int, UnavailableError]:
        """One more token for every sequence, from hidden states [rows, d] of their lanes; errors as
        `step`."""
        logits = self._decoder.logits(hidden)
        failed: dict[int, UnavailableError] = {}
        for i, (sequence, row) in enumerate(zip(sequences, logits, strict=True)):
            try:
                sequence.last = sequence.sampler.pick(row)
            except UnavailableError as error:
                failed[i] = error
                continue
            sequence.length += 1
            sequence.num_new += 1
        return failed

    def close(self) -> None:
        """When what moves beside the passes has arrived. Idempotent."""
        self._exact.close()
        self._texts.shutdown(wait=False)

    def logprobs(self, sequence: Sequence) -> tuple[TokenLogprob, ...]:
        """Log-probabilities of the tokens since the last call, less one that ends the answer."""
        return tuple(
            self._told(one.token, one.logprob, one.top)
            for one in sequence.sampler.taken()
            if not self.ends(one.token)
        )

    def _told(self, token: int, logprob: float, top: Seq[tuple[int, float]] = ()) -> TokenLogprob:
        raw = self._vocabulary.bytes_of(token)
        text = raw.decode("utf-8", "replace")
        return TokenLogprob(text, raw, logprob, tuple(self._told(*pair) for pair in top))

    def ends(self, token: int) -> bool:
        return token in self._decoder.eos_ids

    def fit(self, request: FitRequest) -> int:
        """See `Planner.fit`. From any thread."""
        return self._planner.fit(request)

    def announce(self, request_id: str, request: GenerateRequest) -> None:
        """Tell the store what a request that waits will need. From any thread."""
        if paths := self._prefill.paths(self._ordered(self._planner.plan(request))):
            self._segments.announce(request_id, paths, request.timeout_s)

    def retire(self, request_id: str) -> None:
        """It is served now, or has gone. From any thread; idempotent."""
        self._segments.retire(request_id)

    def _ordered(self, plan: Plan) -> Plan:
        if self._config.passage_order == "relevance" or not plan.pieces:
            return plan
        return canonical(plan, self._segments, self._decoder.layout)

    def hand_over(self, timeout_s: float) -> int:
        """Give the store what only the device tier has; how many segments."""
        return self._segments.hand_over(time.monotonic() + timeout_s)

    def device_stats(self) -> TierStats:
        """Of the device tier. From any thread."""
        return self._segments.stats()

    def fuse(self, tenant: str, passage: Neighbourhood, timeout_s: float) -> CacheReport:
        """See `Fuser.fuse`. RequestError where the mode makes no use of it."""
        if self._fuser is None:
            raise RequestError(
                "generator.mode",
                f"is {self._config.mode!r}; fused segments are for 'fusion' and 'auto'",
            )
        return self._fuser.fuse(tenant, passage.text, passage.neighbours, timeout_s)

    def forget(self, tenant: str, texts: Seq[str], fused: Seq[FusedSegment] = ()) -> int:
        """Remove the stored segments of passages that no longer exist, and these fused ones, in
        whichever mode they were made; how many went."""
        root = make_root(self._decoder.fingerprint, tenant)
        tags = [tag(root, self._prompt.passage(text)) for text in texts]
        for one in fused:
            tags.append(fused_tag(tag(root, self._prompt.passage(one.text)), one.neighbours))
        return self._segments.forget(tags)
