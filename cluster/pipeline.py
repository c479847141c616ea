"""A question's way through the deployments: search, rerank, generate.

Plain Python over `cluster.services`. Every stage gets the seconds that are left. A replica that is
lost is asked for once more (a retry per request), as long as no token has left; then it is a 503.
Closing the stream of events closes the generator's.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypeVar

from actors.conversation import Conversation
from actors.errors import UnavailableError
from actors.messages import (
    CacheReport,
    FitRequest,
    Found,
    GenerateChunk,
    GenerateRequest,
    RerankRequest,
    RerankResult,
    SearchRequest,
)
from cluster.choices import Growing, report, samplings, side_by_side
from cluster.deadline import Deadline, Limits
from cluster.errors import NotFoundError, ReplicaLostError
from cluster.outcome import in_field, order, shortened, together
from cluster.query import Answer, Candidates, Piece, Query, Retrieval, Source, Truncated
from cluster.services import Services
from cluster.usage import Usage

T = TypeVar("T")

RETRY_PAUSE_S = 0.2
MAX_TURN_CHARS = 20_000
"""A longer turn before the question is not searched for: no embedder reads that far."""


@dataclass(slots=True)
class Run:
    """One request: the time that it has left, and what it has used."""

    deadline: Deadline
    usage: Usage

    async def may_retry(self, error: ReplicaLostError) -> None:
        """Return after a pause if the request may ask again. Raises UnavailableError if not."""
        if self.usage.retried:
            raise UnavailableError(f"{error}; try again") from error
        self.usage.retried = True
        await asyncio.sleep(min(RETRY_PAUSE_S, self.deadline.left_s()))

    async def stage(self, name: str, call: Callable[[float], Awaitable[T]]) -> T:
        """One call with the seconds that are left, measured, asked again after a lost replica."""
        started = perf_counter()
        try:
            while True:
                left_s = self.deadline.left_s()
                try:
                    return await self.deadline.bound(call(left_s), name)
                except ReplicaLostError as error:
                    await self.may_retry(error)
        finally:
            self.usage.timings_ms[name] = _ms_since(started)

    def rounded_ms(self) -> dict[str, float]:
        return {name: round(ms, 3) for name, ms in self.usage.timings_ms.items()}


class Pipeline:
    def __init__(
        self, services: Services, dense_weight: float, limits: Limits, usage: Usage | None = None
    ) -> None:
        """For one request, which adds what it uses to `usage`."""
        self._services = services
        self._dense_weight = dense_weight
        self._limits = limits
        self._usage = usage or Usage()

    async def answer(self, query: Query, streamed: bool = True) -> AsyncGenerator[Piece | Answer]:
        """Pieces of the answer, then the `Answer`. `streamed`: the request's time is for the first
        piece, and the others have limits of their own. A conversation that is too long loses its
        oldest exchanges before anything is searched. Raises the errors of `actors.errors`."""
        with in_field(query.retrieval):
            async with aclosing(self._answer(query, streamed)) as events:
                async for event in events:
                    yield event

    async def _answer(self, query: Query, streamed: bool) -> AsyncGenerator[Piece | Answer]:
        run = Run(self._limits.request(), self._usage)
        if query.raw_prompt is None:
            query = await self._fitting(query, run)
        found, sources = Candidates((), {}, {}), tuple[Source, ...]()
        if query.retrieval:
            found = await self._found(query.request_id, query.tenant, query.retrieval, run)
            sources = found.sources
        started = perf_counter()
        growing = [Growing() for _ in range(query.num_choices)]
        streams = [
            self._generate(replace(query, sampling=sampling), sources, run, streamed)
            for sampling in samplings(query.sampling, query.num_choices)
        ]
        async with aclosing(side_by_side(streams)) as chunks:
            async for index, chunk in chunks:
                growing[index].take(chunk)
                if chunk.text or chunk.logprobs:
                    run.usage.timings_ms.setdefault("ttft", run.deadline.elapsed_s * 1000)
                    yield Piece(chunk.text, index, chunk.logprobs)
        choices, last = tuple(one.made() for one in growing), growing[0].last
        run.usage.timings_ms["generate"] = _ms_since(started)
        run.usage.timings_ms["total"] = run.deadline.elapsed_s * 1000
        run.usage.timings_ms.setdefault("ttft", run.usage.timings_ms["total"])
        run.usage.cache["generate"] = report(growing)
        run.usage.prompt_tokens = last.prompt_tokens
        run.usage.completion_tokens = sum(one.last.completion_tokens for one in growing)
        total = sum(run.usage.cache.values(), start=CacheReport())
        yield Answer(
            choices,
            sources,
            run.rounded_ms(),
            {**run.usage.cache, "total": total},
            run.usage.prompt_tokens,
            run.usage.completion_tokens,
            Truncated(
                messages=query.num_left_out + last.num_left_out,
                passages=together(found.truncated.passages, last.cuts),
                question=found.truncated.question,
            ),
        )

    async def candidates(self, request_id: str, tenant: str, retrieval: Retrieval) -> Candidates:
        """What an answer would be made from: the best `top_k` of `top_n`."""
        run = Run(self._limits.request(), self._usage)
        with in_field(retrieval):
            found = await self._found(request_id, tenant, retrieval, run)
        run.usage.timings_ms["total"] = run.deadline.elapsed_s * 1000
        return replace(found, timings_ms=run.rounded_ms(), cache=run.usage.cache)

    async def rerank(
        self,
        request_id: str,
        tenant: str,
        query: str,
        texts: Sequence[str],
        max_document_tokens: int | None = None,
    ) -> RerankResult:
        """Scores of the texts, in their order."""
        run = Run(self._limits.request(), self._usage)
        return await self._rerank(
            RerankRequest(
                request_id,
                tenant,
                query,
                tuple(texts),
                run.deadline.left_s(),
                max_document_tokens=max_document_tokens,
            ),
            run,
        )

    async def _fitting(self, query: Query, run: Run) -> Query:
        """Without the exchanges that have no room, and with what of the others is searched for."""
        said = Conversation.of(query.messages)
        retrieval = query.retrieval
        gone = 0
        if said.history:
            size = (retrieval.top_k, retrieval.passage_tokens) if retrieval else (0, 0)
            max_tokens = query.sampling.max_tokens
            gone = await run.stage(
                "fit",
                lambda left_s: self._services.generator.fit(
                    FitRequest(
                        query.messages, *size, max_tokens, left_s, query.chat_template_kwargs
                    )
                ),
            )
        kept = said.without(gone)
        if retrieval:
            earlier = kept.questions(retrieval.history_turns)[:-1]
            retrieval = replace(retrieval, earlier=tuple(filter(_is_searchable, earlier)))
        num_left_out = query.num_left_out + said.num_messages(gone)
        return replace(
            query, messages=kept.messages, retrieval=retrieval, num_left_out=num_left_out
        )

    async def _found(
        self, request_id: str, tenant: str, retrieval: Retrieval, run: Run
    ) -> Candidates:
        found = await self._search(tenant, retrieval, run)
        if not found:
            run.usage.cache["rerank"] = CacheReport()
            return Candidates((), {}, {})
        texts = tuple(hit.passage.text for hit in found)
        ranking = await self._rerank(
            RerankRequest(
                request_id,
                tenant,
                retrieval.question,
                texts,
                run.deadline.left_s(),
                earlier=retrieval.earlier,
                excerpt=True,
            ),
            run,
        )
        places = order(found, ranking.log_likelihoods, self._dense_weight)[: retrieval.top_k]
        cuts = {cut.index: cut for cut in ranking.cuts}
        cut = [replace(cuts[i], index=n) for n, (i, _) in enumerate(places) if i in cuts]
        sources = tuple(source for _, source in places)
        truncated = Truncated(passages=tuple(cut), question=shortened(retrieval, ranking))
        return Candidates(sources, {}, {}, truncated)

    async def _search(self, tenant: str, retrieval: Retrieval, run: Run) -> tuple[Found, ...]:
        name, question, top_n = retrieval.collection, retrieval.question, retrieval.top_n
        result = await run.stage(
            "search",
            lambda left_s: self._services.retriever.search(
                SearchRequest(tenant, name, question, top_n, left_s, retrieval.earlier)
            ),
        )
        if result.version == 0:
            raise NotFoundError(
                "collection",
                f"{name!r} has no documents; add some: POST /v1/documents with "
                f'{{"collection": "{name}", "text": "..."}}, or hyperrag ingest PATH',
            )
        return result.found

    async def _rerank(self, request: RerankRequest, run: Run) -> RerankResult:
        result = await run.stage(
            "rerank",
            lambda left_s: self._services.reranker.rerank(replace(request, timeout_s=left_s)),
        )
        run.usage.cache["rerank"] = result.cache
        return result

    async def _generate(
        self, query: Query, sources: Sequence[Source], run: Run, streamed: bool
    ) -> AsyncGenerator[GenerateChunk]:
        started = False
        end = self._limits.stream() if streamed else run.deadline
        while True:
            try:
                async with aclosing(self._open(query, sources, end)) as chunks:
                    while True:
                        later = started and streamed
                        deadline = self._limits.token() if later else run.deadline
                        chunk = await deadline.bound(anext(chunks), "generate")
                        started = True
                        yield chunk
            except StopAsyncIteration:
                return
            except ReplicaLostError as error:
                if started:
                    raise UnavailableError(f"{error}, and the answer broke off") from error
                await run.may_retry(error)

    def _open(
        self, query: Query, sources: Sequence[Source], end: Deadline
    ) -> AsyncGenerator[GenerateChunk]:
        passages = tuple(source.passage.text for source in sources)
        neighbours = tuple(source.neighbours for source in sources)
        return self._services.generator.generate(
            GenerateRequest(
                query.request_id,
                query.tenant,
                query.messages,
                passages,
                query.sampling,
                end.left_s(),
                query.raw_prompt,
                query.chat_template_kwargs,
                neighbours if any(neighbours) else (),
            )
        )


def _is_searchable(turn: str) -> bool:
    return bool(turn.strip()) and len(turn) <= MAX_TURN_CHARS


def _ms_since(started: float) -> float:
    return (perf_counter() - started) * 1000
