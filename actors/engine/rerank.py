"""Document-first reranking over stored KV (HyperRAG, arXiv 2504.02921; ALGORITHMS 1).

    prompt prefix | passage | fixed suffix | question
    --------- stored ---------------------   computed

A passage stands before the question, so its KV does not depend on the question: it is computed
once and kept, and so is the KV of the instruction that follows it. Online, only the question's
tokens are computed, for the candidates of all questions at hand in one packed pass.
"""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby

from actors.conversation import excerpt, joined
from actors.engine.asking import Abandoned, Ask, Job, Row, never, rows_of, wanted
from actors.engine.candidates import Candidate, CandidateSegments, Group, Stage
from actors.engine.config import RerankerConfig
from actors.engine.device import create_device_tier
from actors.engine.documents import Documents
from actors.engine.halves import in_halves
from actors.engine.lanes import Lane
from actors.engine.passes import ScoringPasses
from actors.engine.plain_text import Tokens
from actors.engine.query_first import QueryFirst, create_query_first
from actors.engine.runtime import Runtime
from actors.engine.scoring import create_scoring_rule
from actors.engine.segments import Segments, remaining
from actors.errors import ActorError, ExpiredError, RequestError
from actors.messages import CacheReport, RerankResult
from kvstore.client import StoreClient
from kvstore.keys import make_root, tag
from kvstore.types import TierStats


class RerankEngine:
    """Scores candidates of a few questions at a time. For one engine thread."""

    def __init__(self, runtime: Runtime, config: RerankerConfig, store: StoreClient | None) -> None:
        self._decoder, self._prompt, self._slot = runtime.decoder, runtime.prompt, runtime.slot
        self._config = config
        self._rule = create_scoring_rule(config, self._prompt, self._decoder)
        self._query_first = create_query_first(runtime, config)
        self._documents = Documents(
            self._prompt.plain,
            self._prompt.passage,
            self._prompt.num_passage_tokens,
            self._prompt.config.max_passage_tokens,
            config.max_document_passages,
        )
        if self._query_first is None:
            self._decoder.make_invariant()
        client = store if config.reuse == "on" and self._query_first is None else None
        tier = create_device_tier(client, self._decoder.device, config.device_tier)
        self._segments = Segments(client, tier)
        self._candidates = CandidateSegments(
            self._decoder, self._segments, self._slot, config.batch_tokens
        )
        self._passes = ScoringPasses(self._decoder, self._rule, self._slot, config.batch_tokens)

    def score(
        self, tenant: str, question: str, texts: Sequence[str], timeout_s: float
    ) -> RerankResult:
        """Score every text, in the order given; equal texts are scored once.

        Raises RequestError for an empty or too long question and too many texts, ExpiredError
        when `timeout_s` passes.
        """
        ask = Ask(question, texts, time.monotonic() + timeout_s)
        ((_, outcome),) = self.score_batch(tenant, [ask])
        if isinstance(outcome, ActorError):
            raise outcome
        return outcome

    def score_batch(
        self, tenant: str, asks: Sequence[Ask]
    ) -> Iterator[tuple[int, RerankResult | ActorError]]:
        """Score questions of one tenant together: their candidates share passes, and what several
        want is loaded once. A question that follows other turns counts half by itself, half behind
        them. Outcomes with their index in `asks`, as soon as each is known."""
        return in_halves(asks, self._halves, lambda halves: self._scored(tenant, halves))

    def _scored(
        self, tenant: str, asks: Sequence[Ask]
    ) -> Iterator[tuple[int, RerankResult | ActorError]]:
        if self._query_first is not None:
            for index, ask in enumerate(asks):
                yield index, self._question_first(self._query_first, ask)
            return
        jobs: list[Job] = []
        for index, ask in enumerate(asks):
            try:
                jobs.append(self._job(index, ask))
            except (RequestError, ExpiredError) as error:
                yield index, error
        score = self._score_reusing if self._segments.on else self._score_in_full
        for group in self._groups(tenant, jobs):
            with closing(score(group, jobs)) as passes:
                while any(job.is_open for job in jobs) and next(passes, True) is None:
                    done = [job for job in jobs if not job.is_open]
                    yield from ((job.index, job.outcome()) for job in done)
                    jobs = [job for job in jobs if job not in done]
        yield from ((job.index, job.outcome()) for job in jobs)

    def announce(self, request_id: str, tenant: str, texts: Sequence[str], ttl_s: float) -> None:
        """Tell the store what a request that waits will need. From any thread."""
        candidates = self._made(tenant, self._passages(texts))
        paths = [candidate.path for candidate in candidates]
        self._segments.announce(request_id, paths, ttl_s)

    def retire(self, request_id: str) -> None:
        """It is served now, or has gone. From any thread; idempotent."""
        self._segments.retire(request_id)

    def hand_over(self, timeout_s: float) -> int:
        """Give the store what only the device tier has; how many segments."""
        return self._segments.hand_over(time.monotonic() + timeout_s)

    def device_stats(self) -> TierStats:
        """Of the device tier. From any thread."""
        return self._segments.stats()

    def precompute(
        self, tenant: str, texts: Sequence[str], timeout_s: float, abandoned: Abandoned = never
    ) -> CacheReport:
        """Fill the store for these passages, without scoring anything. Ends early, with what was
        done, when nobody waits for it any more."""
        deadline = time.monotonic() + timeout_s
        if not self._segments.on:
            return CacheReport(store="off")
        report = CacheReport()
        passages = list(dict.fromkeys(self._passages(texts)))
        for group in self._cut(self._made(tenant, passages)):
            with closing(self._candidates.stages(group, deadline)) as stages:
                while not abandoned() and (stage := next(stages, None)):
                    report += stage.report(stage.kvs)
        return report

    def forget(self, tenant: str, texts: Sequence[str]) -> int:
        """Remove the stored segments of passages that no longer exist; how many went."""
        root = make_root(self._decoder.fingerprint, tenant)
        return self._segments.forget([tag(root, passage) for passage in self._passages(texts)])

    def _passages(self, texts: Sequence[str]) -> list[Tokens]:
        return [passage for text in texts for passage in self._documents.of(text).passages]

    def _question_first(self, engine: QueryFirst, ask: Ask) -> RerankResult | ActorError:
        try:
            question, excerpt_chars = self._question(ask)
            left_s = remaining(ask.deadline)
            outcome = engine.score(replace(ask, question=question), left_s)
            return replace(outcome, excerpt_chars=excerpt_chars)
        except ActorError as error:
            return error

    def _validate(self, ask: Ask) -> None:
        if not ask.question.strip():
            raise RequestError("query", "must not be empty")
        if len(ask.texts) > self._config.max_candidates:
            raise RequestError(
                "documents", f"holds {len(ask.texts)} texts, at most {self._config.max_candidates}"
            )

    def _halves(self, ask: Ask) -> tuple[Ask, ...]:
        """By itself, and behind the turns before it where any of them fits."""
        alone = replace(ask, earlier=())
        try:
            follows = bool(ask.earlier) and self._question(ask) != self._question(alone)
        except RequestError:  # which scoring it alone says
            follows = False
        return (alone, ask) if follows else (alone,)

    def _question(self, ask: Ask) -> tuple[str, int]:
        """With what fits of the turns before it; and the characters of the excerpt that stands for
        it, 0 where it is whole. Raises RequestError."""
        self._validate(ask)
        most = self._config.max_question_tokens

        def fits(text: str) -> bool:
            return len(self._prompt.question(text)) <= most

        asked = excerpt(ask.question, fits) if ask.excerpt else ask.question
        if not fits(asked):
            num = len(self._prompt.question(asked))
            raise RequestError("query", f"has {num} tokens, at most {most} are allowed")
        return joined(ask.earlier, asked, fits), 0 if asked == ask.question else len(asked)

    def _job(self, index: int, ask: Ask) -> Job:
        question, excerpt_chars = self._question(ask)
        suffix = self._rule.suffix(question)
        documents = [self._documents.of(text, ask.max_document_tokens) for text in wanted(ask)]
        report = CacheReport() if self._segments.on else CacheReport(store="off")
        num_prefix, scale = len(self._prompt.prefix), self._rule.scale
        return Job(
            index,
            ask.deadline,
            suffix,
            documents,
            num_prefix,
            scale,
            report,
            ask.abandoned,
            excerpt_chars,
        )

    def _made(self, tenant: str, passages: Sequence[Tokens]) -> list[Candidate]:
        root = make_root(self._decoder.fingerprint, tenant)
        prefix, fixed = self._prompt.prefix, self._rule.fixed
        return [self._candidates.candidate(root, (prefix, p, fixed)) for p in passages]

    def _groups(self, tenant: str, jobs: Sequence[Job]) -> Iterator[Group]:
        passages = dict.fromkeys(passage for job in jobs for passage in job.passages)
        return self._cut(self._made(tenant, list(passages)))

    def _cut(self, candidates: Sequence[Candidate]) -> Iterator[Group]:
        """Groups of at most `pinned_tokens` of stored KV."""
        group: list[Candidate] = []
        pinned = 0
        for candidate in candidates:
            size = sum(map(len, candidate.pieces[1:]))
            if group and pinned + size > self._config.pinned_tokens:
                yield Group(group)
                group, pinned = [], 0
            group.append(candidate)
            pinned += size
        if group:
            yield Group(group)

    def _score_in_full(self, group: Group, jobs: Sequence[Job]) -> Generator[None]:
        """The baseline: every token of every candidate, in packed passes."""
        prefix = self._prompt.prefix

        def lane(row: Row) -> Lane:
            return Lane(prefix + row.passage + row.job.suffix.fixed + row.job.suffix.fed)

        for rows, scores in self._passes.run(rows_of(jobs, group.candidates), lane):
            for row, score in zip(rows, scores or (), strict=True):
                num = len(prefix) + len(row.candidate.passage)
                row.job.report += CacheReport(computed=1, tokens_computed=num)
                row.job.take(row.passage, score)
            yield

    def _score_reusing(self, group: Group, jobs: Sequence[Job]) -> Generator[None]:
        deadline = max(job.deadline for job in jobs)
        with closing(self._candidates.stages(group, deadline)) as stages:
            for stage in stages:
                yield from self._score_stage(stage, jobs)

    def _score_stage(self, stage: Stage, jobs: Sequence[Job]) -> Iterator[None]:
        """What is lost on its way, or changes under us, is computed again, trusting nothing."""

        def lane(row: Row) -> Lane:
            return Lane(row.job.suffix.fed, stage.kvs[row.candidate])

        passes = self._passes.run(rows_of(jobs, stage.kvs), lane, stage.prefix, stage.arrive)
        for rows, scores in passes:
            if scores is None or not self._segments.unchanged(stage.lease):
                yield from self._score_in_full(Group([row.candidate for row in rows]), jobs)
                continue
            for job, own in groupby(rows, key=lambda row: row.job):
                job.report += stage.report(row.candidate for row in own)
            for row, score in zip(rows, scores, strict=True):
                row.job.take(row.passage, score)
            yield
