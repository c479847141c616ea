"""The retriever: questions to passages, many questions in one pass over the model."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from actors.conversation import MAX_QUERY_BYTES
from actors.errors import ActorError, ExpiredError, OverloadedError, RequestError, UnavailableError
from actors.messages import Cut, SearchRequest, SearchResult
from actors.retrieval.asked import vectors_of
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.documents import check_text
from actors.retrieval.embedding import Embedder, Vectors
from actors.retrieval.follower import CorpusReader
from actors.retrieval.names import check_names
from actors.retrieval.remote import open_storage
from actors.texts import EmbedRequest, EmbedResult
from actors.whereabouts import whereabouts
from kvstore.executor import DaemonExecutor

Answer = SearchResult | BaseException

_STUCK_S = 120.0
"""A batch that takes longer than this is taken for hung."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: SearchRequest
    answer: asyncio.Future[SearchResult]
    expires: float
    """On the monotonic clock."""


class Retriever:
    """Questions that arrive while a batch is computed form the next one.

    Embedding and search run on one thread of their own, opening of newer versions on another; the
    event loop only waits. For one event loop.
    """

    def __init__(self, retrieval: RetrievalConfig) -> None:
        self._config = retrieval
        storage = open_storage(
            retrieval.corpus_uri, retrieval.local_cache_dir, retrieval.local_cache_bytes
        )
        self._embedder = Embedder(retrieval.embedder, retrieval.embed_batch)
        self._embedder.load()
        self._reader = CorpusReader(
            storage, self._embedder.fingerprint, retrieval.follow_interval_s
        )
        self._compute = DaemonExecutor(1, "retriever")
        self._follow = DaemonExecutor(1, "retriever-follow")
        self._waiting: deque[_Waiting] = deque()
        self._draining: asyncio.Task[None] | None = None
        self._refreshing = self._embedding = 0
        self._busy_since: float | None = None
        self._num_searched = self._num_batches = 0

    async def search(self, request: SearchRequest) -> SearchResult:
        """Raises RequestError, OverloadedError, ExpiredError or UnavailableError."""
        self._check(request)
        if len(self._waiting) >= self._config.max_waiting:
            raise OverloadedError("the retriever's queue")
        answer: asyncio.Future[SearchResult] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, answer, time.monotonic() + request.timeout_s))
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        try:
            async with asyncio.timeout(request.timeout_s):
                return await answer
        except TimeoutError:
            message = f"the search took longer than the {request.timeout_s:g} s that were left"
            raise ExpiredError(message) from None

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        """Vectors of the inputs, batch by batch: questions get in between. Raises RequestError,
        OverloadedError or ExpiredError."""
        if self._embedding >= self._config.max_waiting:
            raise OverloadedError("the retriever's queue of texts")
        self._embedding += 1
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._embedded(request.inputs)
        except TimeoutError:
            message = f"embedding took longer than the {request.timeout_s:g} s that were left"
            raise ExpiredError(message) from None
        finally:
            self._embedding -= 1

    async def _embedded(self, inputs: Sequence[str | tuple[int, ...]]) -> EmbedResult:
        loop, size = asyncio.get_running_loop(), self._config.embed_batch
        read = [
            await loop.run_in_executor(self._compute, self._read, inputs[start : start + size])
            for start in range(0, len(inputs), size)
        ]
        lengths = [length for part in read for length in part[1]]
        most = self._embedder.longest
        kept = [min(length, most or length) for length in lengths]
        cuts = [Cut(i, n, k) for i, (n, k) in enumerate(zip(lengths, kept, strict=True)) if k < n]
        vectors = np.concatenate([vectors for vectors, _ in read])
        return EmbedResult(vectors, sum(kept), tuple(cuts))

    def _read(self, inputs: Sequence[str | tuple[int, ...]]) -> tuple[Vectors, list[int]]:
        """Vectors, and how many tokens each input has."""
        texts = [item if isinstance(item, str) else self._embedder.text_of(item) for item in inputs]
        return self._embedder.embed(texts), self._embedder.num_tokens(texts)

    async def refresh(self, tenant: str, collection: str, version: int) -> int:
        """Open this version, or a newer one, now; the version that is open then.

        UnavailableError when only an older one can be opened.
        """
        check_names(tenant, collection)
        if self._refreshing >= self._config.max_waiting:
            raise OverloadedError("the retriever's queue of refreshes")
        self._refreshing += 1
        try:
            opened = await asyncio.get_running_loop().run_in_executor(
                self._follow, self._reader.refresh, tenant, collection, version
            )
        finally:
            self._refreshing -= 1
        if opened < version:
            raise UnavailableError(
                f"collection {collection!r} is at version {opened}, {version} cannot be opened yet"
            )
        return opened

    async def status(self) -> dict[str, Any]:
        return {
            **whereabouts(),
            "embedder": self._config.embedder,
            "embedder_fingerprint": self._embedder.fingerprint,
            "device": self._embedder.device,
            "collections_open": len(self._reader.versions()),
            "waiting": len(self._waiting),
            "searched": self._num_searched,
            "batches": self._num_batches,
        }

    def check_health(self) -> None:
        """UnavailableError when the computing thread is stuck."""
        busy_s = time.monotonic() - self._busy_since if self._busy_since is not None else 0.0
        if busy_s > _STUCK_S:
            raise UnavailableError(
                f"the retriever computes one batch for {busy_s:.0f} s: restart it"
            )

    def _check(self, request: SearchRequest) -> None:
        check_names(request.tenant, request.collection)
        if not request.query.strip():
            raise RequestError("query", "is empty; ask something")
        check_text(request.query, "query", MAX_QUERY_BYTES)
        if not 1 <= request.top_n <= self._config.max_top_n:
            allowed = f"1 to {self._config.max_top_n}"
            raise RequestError("top_n", f"is {request.top_n}, allowed are {allowed}")
        if not request.timeout_s > 0:
            raise ExpiredError("no time was left when the search arrived")

    async def _drain(self) -> None:
        """Answer batches until nothing waits. Every future taken is settled, whatever happens."""
        loop = asyncio.get_running_loop()
        try:
            while batch := self._take_batch():
                self._busy_since = time.monotonic()
                computing = loop.run_in_executor(self._compute, self._answer, batch)
                # What the batch raises must reach everyone who waits for it.
                (answers,) = await asyncio.gather(computing, return_exceptions=True)
                self._busy_since = None
                if isinstance(answers, BaseException):
                    answers = [answers for _ in batch]
                _settle(batch, answers)
        finally:
            self._draining = None

    def _take_batch(self) -> list[_Waiting]:
        """Who waits longest and still wants an answer."""
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._config.embed_batch:
            waiting = self._waiting.popleft()
            if not waiting.answer.done() and time.monotonic() < waiting.expires:
                batch.append(waiting)
        self._num_searched += len(batch)
        self._num_batches += bool(batch)
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> list[Answer]:
        """One embedding pass for all, one search for each collection and `top_n`."""
        asked = [(waiting.request.earlier, waiting.request.query) for waiting in batch]
        vectors = vectors_of(asked, self._embedder)
        answers: dict[int, Answer] = {}
        order = sorted(range(len(batch)), key=lambda i: _target(batch[i].request))
        for target, group in groupby(order, key=lambda i: _target(batch[i].request)):
            rows = list(group)
            answers |= zip(rows, self._search(target, vectors[rows]), strict=True)
        return [answers[i] for i in range(len(batch))]

    def _search(self, target: tuple[str, str, int], vectors: Vectors) -> list[Answer]:
        """A collection that cannot be searched fails its own questions, not the batch's others."""
        tenant, collection, top_n = target
        try:
            matches = self._reader.search(tenant, collection, vectors, top_n)
        except ActorError as error:
            return [error for _ in vectors]
        return [SearchResult(matches.version, tuple(found)) for found in matches.found]


def _target(request: SearchRequest) -> tuple[str, str, int]:
    return request.tenant, request.collection, request.top_n


def _settle(batch: Sequence[_Waiting], answers: Sequence[Answer]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(answer, BaseException):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
