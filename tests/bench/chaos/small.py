"""The application around small parts whose reranker keeps KV in the real store: what a minute of
chaos needs. A segment's bytes follow from its key, and are compared whenever it is found."""

import asyncio
from contextlib import suppress
from hashlib import sha256
from typing import Any

from ray.serve import Application

from actors.messages import RerankRequest, RerankResult
from cluster.app import Parts, assemble
from cluster.config import HyperRagConfig
from kvstore.errors import KVStoreError
from kvstore.types import Path
from tests.cluster.nodes import Engine
from tests.cluster.parts import (
    FileCorpus,
    WordGenerator,
    WordReranker,
    WordRetriever,
    parse_lines,
)
from tests.kvstore.segments import TRUNK, chain_of, passage

USE_S = 20.0


class StoringReranker(WordReranker):
    """Goes without the store where that fails, as an engine does."""

    def __init__(self, *bound: Any) -> None:
        super().__init__(*bound)
        self._engine = Engine(self._store)

    async def rerank(self, request: RerankRequest) -> RerankResult:
        with suppress(KVStoreError):
            paths = [_path(text) for text in dict.fromkeys(request.texts)]
            await asyncio.to_thread(self._engine.use, *paths, timeout_s=USE_S)
        return await super().rerank(request)


class IdleGenerator(WordGenerator):
    async def status(self) -> dict[str, Any]:
        return {**await super().status(), "waiting": 0}


def build(args: dict[str, Any]) -> Application:
    parts = Parts(WordRetriever, FileCorpus, StoringReranker, IdleGenerator, parse_lines)
    return assemble(HyperRagConfig.parse(args), parts)


def _path(text: str) -> Path:
    return chain_of(TRUNK, passage(int.from_bytes(sha256(text.encode()).digest()[:3])))
