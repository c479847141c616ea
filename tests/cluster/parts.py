"""Small real parts with the interfaces of the deployments: words instead of models.

A collection is a JSON file in the corpus folder, so that the parts also work in processes of their
own. A question scores a text by the words they share; an answer repeats the passages' words.
"""

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.conversation import Conversation, excerpt
from actors.engine.config import (
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    PromptConfig,
    RerankerConfig,
)
from actors.errors import RequestError
from actors.messages import (
    CacheReport,
    Cut,
    DeleteResult,
    Document,
    DocumentInfo,
    DocumentPage,
    FitRequest,
    Found,
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
    IngestResult,
    Neighbourhood,
    NeighbourhoodPage,
    Passage,
    PrecomputeRequest,
    RecordResult,
    RerankRequest,
    RerankResult,
    Sampling,
    SearchRequest,
    SearchResult,
    TokenLogprob,
)
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.lock import WriterLock
from actors.texts import EmbedRequest, EmbedResult, TokenizeRequest, TokenizeResult
from actors.whereabouts import whereabouts
from kvstore.config import StoreConfig


@dataclass(frozen=True, slots=True)
class Page:
    passages: tuple[Passage, ...]
    next_after: str | None


def shared(a: str, b: str) -> float:
    """Share of the words of `a` that `b` has."""
    words = set(a.lower().split())
    return len(words & set(b.lower().split())) / max(1, len(words))


class Files:
    """{"version": int, "documents": {id: text}} per tenant and collection."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def read(self, tenant: str, collection: str) -> tuple[int, dict[str, str]]:
        path = self._path(tenant, collection)
        if not path.exists():
            return 0, {}
        data = json.loads(path.read_text())
        return data["version"], data["documents"]

    def write(self, tenant: str, collection: str, version: int, documents: dict[str, str]) -> None:
        path = self._path(tenant, collection)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"version": version, "documents": documents}))
        new.replace(path)  # who reads meanwhile sees all of it or none

    def collections(self, tenant: str) -> list[str]:
        names = [path.name.split(".")[1] for path in self._folder.glob(f"{tenant}.*.json")]
        return sorted(name for name in names if self.read(tenant, name)[1])

    def _path(self, tenant: str, collection: str) -> Path:
        return self._folder / f"{tenant}.{collection}.json"


def passage(document_id: str, text: str) -> Passage:
    return Passage(document_id, 0, text, 0, len(text), len(text.split()))


class WordRetriever:
    def __init__(self, retrieval: RetrievalConfig) -> None:
        self._files = Files(retrieval.corpus_uri)
        self._snapshots: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}

    async def search(self, request: SearchRequest) -> SearchResult:
        where = (request.tenant, request.collection)
        if where not in self._snapshots:
            self._snapshots[where] = self._files.read(*where)
        version, documents = self._snapshots[where]
        asked = " ".join((*request.earlier, request.query))
        found = [Found(passage(i, t), shared(asked, t)) for i, t in documents.items()]
        found.sort(key=lambda hit: -hit.score)
        return SearchResult(version, tuple(found[: request.top_n]))

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        """A text's vector has its number of characters and of words; a token is a word."""
        texts = [i if isinstance(i, str) else " ".join(map(str, i)) for i in request.inputs]
        counts = [(len(text), len(text.split())) for text in texts]
        vectors = np.array(counts, np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cuts = tuple(Cut(i, n, 8) for i, (_, n) in enumerate(counts) if n > 8)
        return EmbedResult(vectors, sum(min(n, 8) for _, n in counts), cuts)

    async def refresh(self, tenant: str, collection: str, version: int) -> None:
        self._snapshots[tenant, collection] = self._files.read(tenant, collection)

    async def status(self) -> dict[str, Any]:
        return {**whereabouts(), "pid": os.getpid(), "collections": len(self._snapshots)}


class FileCorpus:
    def __init__(
        self, retrieval: RetrievalConfig, model: ModelConfig, engine: EngineConfig
    ) -> None:
        self._files = Files(retrieval.corpus_uri)
        self._lock = WriterLock(Path(retrieval.corpus_uri), wait_s=10.0)
        self._tokenizer_source = model.source

    async def ingest(self, tenant: str, collection: str, documents: list[Document]) -> IngestResult:
        for i, document in enumerate(documents):
            if not document.text.strip():
                raise RequestError(f"documents[{i}].text", "is empty; a document needs some text")
        version, kept = self._files.read(tenant, collection)
        new = {d.id: d.text for d in documents}
        updated = [i for i in new if i in kept and kept[i] != new[i]]
        unchanged = sum(kept.get(i) == text for i, text in new.items())
        replaced = tuple(kept[i] for i in updated)
        self._files.write(tenant, collection, version + 1, {**kept, **new})
        added = len(new) - len(updated) - unchanged
        return IngestResult(
            version + 1, added, len(updated), unchanged, added + len(updated), replaced
        )

    async def delete(self, tenant: str, collection: str, ids: list[str]) -> DeleteResult:
        version, kept = self._files.read(tenant, collection)
        deleted = tuple(i for i in ids if i in kept)
        removed = tuple(kept.pop(i) for i in deleted)
        if deleted:
            version += 1
            self._files.write(tenant, collection, version, kept)
        return DeleteResult(version, deleted, tuple(i for i in ids if i not in deleted), removed)

    async def list_documents(
        self, tenant: str, collection: str, after: str | None, limit: int
    ) -> DocumentPage:
        version, kept = self._files.read(tenant, collection)
        ids = sorted(i for i in kept if after is None or i > after)
        infos = tuple(DocumentInfo(i, len(kept[i]), 1, {}) for i in ids[:limit])
        return DocumentPage(version, len(kept), infos, ids[limit - 1] if ids[limit:] else None)

    async def collections(self, tenant: str) -> list[str]:
        return self._files.collections(tenant)

    async def passages(self, tenant: str, collection: str, after: str | None, limit: int) -> Page:
        _, kept = self._files.read(tenant, collection)
        ids = sorted(i for i in kept if after is None or i > after)
        page = tuple(passage(i, kept[i]) for i in ids[:limit])
        return Page(page, ids[limit - 1] if ids[limit:] else None)

    async def neighbourhoods(
        self, tenant: str, collection: str, after: str | None, limit: int, num: int
    ) -> NeighbourhoodPage:
        page = await self.passages(tenant, collection, after, limit)
        _, kept = self._files.read(tenant, collection)
        made = tuple(
            Neighbourhood(one.text, tuple(t for t in kept.values() if t != one.text)[:num])
            for one in page.passages
        )
        return NeighbourhoodPage(made, page.next_after)

    async def record(
        self, tenant: str, collection: str, made: tuple[Neighbourhood, ...]
    ) -> RecordResult:
        """Nothing is kept; what was said of passages whose text begins with "Old" is replaced."""
        replaced = [FusedSegment(m.text, b"before") for m in made if m.text.startswith("Old")]
        return RecordResult(self._files.read(tenant, collection)[0], tuple(replaced))

    async def status(self) -> dict[str, Any]:
        return {**whereabouts(), "pid": os.getpid(), "tokenizer": self._tokenizer_source}


class WordReranker:
    def __init__(
        self,
        model: ModelConfig,
        prompt: PromptConfig,
        engine: EngineConfig,
        reranker: RerankerConfig,
        store: StoreConfig,
        run_dir: str,
    ) -> None:
        if model.source == "missing":
            raise RequestError("models.reranker.source", "there is no such model")
        self._seen: set[str] = set()
        self._store = store

    async def rerank(self, request: RerankRequest) -> RerankResult:
        query = request.query
        if request.excerpt:
            query = excerpt(query, lambda text: len(text.split()) <= 512)
        if len(query.split()) > 512:
            raise RequestError("query", "has more than 512 tokens, at most 512 are allowed")
        hits = sum(text in self._seen for text in request.texts)
        self._seen |= set(request.texts)
        asked = " ".join((*request.earlier, query))
        most = request.max_document_tokens
        texts = [t.split()[:most] for t in request.texts]
        scores = tuple(math.log(shared(asked, " ".join(t)) * 0.9 + 0.05) for t in texts)
        report = CacheReport(dram_hits=hits, computed=len(texts) - hits, tokens_reused=hits)
        sizes = [(i, len(t.split())) for i, t in enumerate(request.texts)]
        cuts = tuple(Cut(i, n, len(texts[i])) for i, n in sizes if n > len(texts[i]))
        kept = len(query) if query != request.query else 0
        return RerankResult(
            scores, sum(map(len, texts)), report, 0.001, cuts=cuts, excerpt_chars=kept
        )

    async def precompute(self, request: PrecomputeRequest) -> CacheReport:
        new = set(request.texts) - self._seen
        self._seen |= new
        return CacheReport(dram_hits=len(request.texts) - len(new), computed=len(new))

    async def forget(self, tenant: str, texts: tuple[str, ...]) -> int:
        known = self._seen & set(texts)
        self._seen -= known
        return len(known)

    async def status(self) -> dict[str, Any]:
        return {
            **whereabouts(),
            "pid": os.getpid(),
            "texts": len(self._seen),
            "segment_hits": 3,
            "segments_computed": 1,
            "store": {"dram": {}},
        }


def _json_of(schema: Any) -> str:
    """Of a call, or an object without anything in it."""
    if "anyOf" not in schema:
        return "{}"
    name = schema["anyOf"][0]["properties"]["name"]["const"]
    return json.dumps({"name": name, "arguments": {"zone": "UTC"}})


def _logprobs(word: str, sampling: Sampling) -> tuple[TokenLogprob, ...]:
    """As if every word were one of two that are equally likely."""
    if sampling.logprobs is None:
        return ()
    one = TokenLogprob(word, word.encode(), math.log(0.5))
    return (replace(one, top=(one,) * sampling.logprobs),)


class WordGenerator:
    """Answers with the words of its passages, one chunk each; a question with the word "slowly"
    takes a second for each. `cancelled` counts streams that were closed before their end."""

    def __init__(
        self,
        model: ModelConfig,
        prompt: PromptConfig,
        engine: EngineConfig,
        generator: GeneratorConfig,
        store: StoreConfig,
        run_dir: str,
    ) -> None:
        self.cancelled = self.requests = 0
        self.room = 4096
        self.fused: set[tuple[str, str]] = set()
        self.forgotten: list[FusedSegment] = []

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateChunk]:
        asked = request.raw_prompt or request.messages[-1].content
        words = " ".join(request.passages or (asked,)).split()
        if request.sampling.json_schema:
            words = _json_of(json.loads(request.sampling.json_schema)).split()
        self.requests += 1
        most = request.sampling.max_tokens
        ended = False
        try:
            for word in words[:most]:
                await asyncio.sleep(1.0 if "slowly" in asked else 0)
                yield GenerateChunk(word + " ", logprobs=_logprobs(word + " ", request.sampling))
            reason = "length" if len(words) > most else "stop"
            num = min(len(words), most)
            ended = True
            yield GenerateChunk("", reason, 10, num, 0.01, CacheReport(tokens_reused=7))  # type: ignore[arg-type]
        finally:
            self.cancelled += not ended

    async def fit(self, request: FitRequest) -> int:
        """A word is a token; a generator has room for `room` beside the answer's."""
        said = Conversation.of(request.messages)
        free = self.room - request.max_tokens - request.num_passages * request.passage_tokens
        kept = range(len(said.history) + 1)
        sizes = (sum(len(m.content.split()) for m in said.without(n).messages) for n in kept)
        return next((n for n, size in zip(kept, sizes, strict=True) if size <= free), kept[-1])

    async def tokenize(self, request: TokenizeRequest) -> TokenizeResult:
        """A word is a token, whose id is its length; a prompt begins with 0."""
        text = request.text or " ".join(message.content for message in request.messages)
        words = (*(["<s>"] if request.begins else []), *text.split())
        return TokenizeResult(tuple(len(w) if w != "<s>" else 0 for w in words), words, self.room)

    async def fuse(self, request: FuseRequest) -> CacheReport:
        new = {(m.text, text) for m in request.passages for text in m.neighbours} - self.fused
        self.fused |= new
        return CacheReport(computed=len(new))

    async def forget(
        self, tenant: str, texts: tuple[str, ...], fused: tuple[FusedSegment, ...]
    ) -> int:
        self.forgotten += fused
        return len(fused)

    async def status(self) -> dict[str, Any]:
        return {
            **whereabouts(),
            "pid": os.getpid(),
            "cancelled": self.cancelled,
            "requests": self.requests,
            "waiting": 2,
        }


def parse_lines(filename: str, data: bytes, max_document_bytes: int) -> list[Document]:
    if len(data) > max_document_bytes:
        raise RequestError(filename, f"has {len(data)} bytes, at most {max_document_bytes}")
    return [Document(f"{filename}-{i}", text) for i, text in enumerate(data.decode().splitlines())]
