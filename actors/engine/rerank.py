"""Document-first reranking over stored KV (HyperRAG, arXiv 2504.02921; ALGORITHMS 1).

A passage stands before the question, so its KV does not depend on the question: it is computed
once and kept. Online, only the suffix (instruction and question) is computed, for all candidates
in one packed pass. What is asked and what of the answer is the score: `actors.engine.scoring`.
"""

import time
from collections.abc import Iterator, Sequence

import torch

from actors.engine.candidates import CandidateSegments, Group, Tokens
from actors.engine.config import RerankerConfig
from actors.engine.device import create_device_tier
from actors.engine.packed import Batch, Lane
from actors.engine.query_first import create_query_first
from actors.engine.runtime import Runtime
from actors.engine.scoring import Suffix, create_scoring_rule, finite
from actors.engine.segments import Segments, remaining
from actors.errors import RequestError
from actors.messages import CacheReport, RerankResult
from kvstore.client import StoreClient
from kvstore.keys import make_path, root_digest, tag
from kvstore.types import TierStats


class RerankEngine:
    """Scores candidates of one question at a time. For one engine thread."""

    def __init__(self, runtime: Runtime, config: RerankerConfig, store: StoreClient | None) -> None:
        self._decoder, self._prompt, self._slot = runtime.decoder, runtime.prompt, runtime.slot
        self._config = config
        self._query_first = create_query_first(runtime, config)
        self._rule = create_scoring_rule(config, self._prompt, self._decoder)
        client = store if config.reuse == "on" and self._query_first is None else None
        tier = create_device_tier(client, self._decoder.device, config.device_tier)
        self._segments = Segments(client, tier)
        self._candidates = CandidateSegments(
            self._decoder, self._prompt.prefix, self._segments, self._slot, config.batch_tokens
        )

    def score(
        self, tenant: str, question: str, texts: Sequence[str], timeout_s: float
    ) -> RerankResult:
        """Score every text, in the order given; equal texts are scored once.

        Raises RequestError for an empty or too long question and too many texts, ExpiredError
        when `timeout_s` passes.
        """
        start = time.monotonic()
        self._validate(question, texts)
        if self._query_first is not None:
            return self._query_first.score(question, texts, timeout_s)
        suffix = self._rule.suffix(question)
        passages = [self._prompt.passage(t) for t in texts]
        scores: dict[Tokens, float] = {}
        report = CacheReport() if self._segments.on else CacheReport(store="off")
        for group in self._groups(tenant, list(dict.fromkeys(passages)), suffix.num_tokens):
            if self._segments.on:
                report += self._score_reusing(group, suffix, scores, start + timeout_s)
            else:
                remaining(start + timeout_s)
                report += self._score_in_full(group, suffix, scores)
        fixed = len(self._prompt.prefix) + suffix.num_tokens
        return RerankResult(
            log_likelihoods=tuple(scores[p] for p in passages),
            num_tokens=sum(fixed + len(p) for p in passages),
            cache=report,
            seconds=time.monotonic() - start,
            scale=self._rule.scale,
        )

    def announce(self, request_id: str, tenant: str, texts: Sequence[str], ttl_s: float) -> None:
        """Tell the store what a request that waits will need. From any thread."""
        root = root_digest(self._decoder.fingerprint, tenant)
        pieces = [(self._prompt.prefix, self._prompt.passage(text)) for text in texts]
        paths = [make_path(root, piece, self._decoder.layout) for piece in pieces]
        self._segments.announce(request_id, paths, ttl_s)

    def retire(self, request_id: str) -> None:
        """It is served now, or has gone. From any thread; idempotent."""
        self._segments.retire(request_id)

    def device_stats(self) -> TierStats:
        """Of the device tier. From any thread."""
        return self._segments.stats()

    def precompute(self, tenant: str, texts: Sequence[str], timeout_s: float) -> CacheReport:
        """Fill the store for these passages, without scoring anything."""
        deadline = time.monotonic() + timeout_s
        passages = [self._prompt.passage(t) for t in texts]
        report = CacheReport() if self._segments.on else CacheReport(store="off")
        if not self._segments.on:
            return report
        for group in self._groups(tenant, list(dict.fromkeys(passages)), 0):
            with self._candidates.obtained(group, deadline):
                report += group.report
        return report

    def forget(self, tenant: str, texts: Sequence[str]) -> int:
        """Remove the stored segments of passages that no longer exist; how many went."""
        root = root_digest(self._decoder.fingerprint, tenant)
        passages = (self._prompt.passage(t) for t in texts)
        return self._segments.forget([tag(root, passage) for passage in passages])

    def _validate(self, question: str, texts: Sequence[str]) -> None:
        if not question.strip():
            raise RequestError("query", "must not be empty")
        if len(texts) > self._config.max_candidates:
            raise RequestError(
                "documents", f"holds {len(texts)} texts, at most {self._config.max_candidates}"
            )
        asked = self._prompt.question(question)
        if len(asked) > self._config.max_question_tokens:
            raise RequestError(
                "query",
                f"has {len(asked)} tokens, at most {self._config.max_question_tokens} are allowed",
            )

    def _groups(self, tenant: str, passages: Sequence[Tokens], tail: int) -> Iterator[Group]:
        """Cut candidates into groups of one pass and of at most `pinned_tokens` of stored KV."""
        root = root_digest(self._decoder.fingerprint, tenant)
        prefix = self._prompt.prefix
        group, rows, pinned = Group(), 0, 0
        for passage in passages:
            own = tail if self._segments.on else len(prefix) + len(passage) + tail
            full = rows + own > self._config.batch_tokens
            if group.passages and (full or pinned + len(passage) > self._config.pinned_tokens):
                yield group
                group, rows, pinned = Group(), 0, 0
            rows, pinned = rows + own, pinned + len(passage)
            group.passages.append(passage)
            group.paths.append(make_path(root, [prefix, passage], self._decoder.layout))
        if group.passages:
            yield group

    def _score_in_full(
        self, group: Group, suffix: Suffix, scores: dict[Tokens, float]
    ) -> CacheReport:
        """The baseline: every token of every candidate in one packed pass."""
        tail = suffix.fixed + suffix.fed
        lanes = [Lane(self._prompt.prefix + p + tail) for p in group.passages]
        with self._slot.held():
            self._read_scores(group, Batch(lanes), suffix, scores)
        tokens = sum(len(self._prompt.prefix) + len(p) for p in group.passages)
        return CacheReport(computed=len(lanes), tokens_computed=tokens, store="off")

    def _score_reusing(
        self, group: Group, suffix: Suffix, scores: dict[Tokens, float], deadline: float
    ) -> CacheReport:
        with self._candidates.obtained(group, deadline) as lease:
            prefix = self._candidates.kv(group, lease, group.paths[0][0].key)
            kvs = [self._candidates.kv(group, lease, path[1].key) for path in group.paths]
            lanes = [Lane(suffix.fixed + suffix.fed, [kv]) for kv in kvs]
            with self._slot.held():
                self._read_scores(group, Batch(lanes, prefix), suffix, scores)
            if self._segments.unchanged(lease):
                return group.report
        # A lease went wrong and bytes were reused under us: compute again, trusting nothing.
        return self._score_in_full(group, suffix, scores)

    def _read_scores(
        self, group: Group, batch: Batch, suffix: Suffix, scores: dict[Tokens, float]
    ) -> None:
        """One pass; the rule reads the last rows of every lane."""
        hidden = self._decoder.forward(batch)
        num_rows = self._rule.num_rows(suffix)
        ends = torch.tensor(batch.starts[1:], device=hidden.device)
        rows = ends[:, None] - torch.arange(num_rows, 0, -1, device=hidden.device)
        found = finite(self._rule.scores(self._decoder, hidden[rows], suffix))
        scores.update(zip(group.passages, found, strict=True))
