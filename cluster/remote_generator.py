"""The generator behind Serve handles: who has a prompt's chain answers it, unless it is busy."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from actors.conversation import Conversation
from actors.messages import (
    CacheReport,
    FitRequest,
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
)
from actors.texts import TokenizeRequest, TokenizeResult
from cluster import replicas
from cluster.paths import RoutedPaths
from cluster.remote import Remote, name_apart, translated
from cluster.splitting import bound_of, counted, split


@dataclass(frozen=True, slots=True)
class RemoteGenerator(Remote):
    """A prompt goes to the replica that has answered from most of what it begins with: exchanges of
    its conversation, then passages."""

    open_requests: Counter[str] = field(default_factory=Counter)
    """Of this process, by the replica they were meant for."""
    paths: RoutedPaths = field(default_factory=RoutedPaths)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        names = self._order((*_history(request), *request.passages))
        with counted(self.open_requests, names, 1), translated(self.name):
            name_apart()
            call = self.handle.options(method_name="generate", stream=True)
            stream = call.remote(replace(request, replicas=names))
            try:
                async for chunk in stream:
                    yield chunk
            finally:
                stream.cancel()

    def _order(self, leading: Sequence[str]) -> tuple[str, ...]:
        """Where the longest path is, unless that replica has its share to do; a new first piece
        has its replica by rendezvous."""
        names = replicas.known(self.handle.deployment_name)
        order = split(leading[:1], names, self.open_requests)[0].replicas
        if not order:
            return ()
        bound = bound_of(names, self.open_requests, 1)
        return self.paths.order(leading, order, lambda name: self.open_requests[name] < bound)

    async def fit(self, request: FitRequest) -> int:
        return cast(int, await self.call("fit", request, timeout_s=request.timeout_s))

    async def tokenize(self, request: TokenizeRequest) -> TokenizeResult:
        call = self.call("tokenize", request, timeout_s=request.timeout_s)
        return cast(TokenizeResult, await call)

    async def fuse(self, request: FuseRequest) -> CacheReport:
        call = self.call("fuse", request, timeout_s=request.timeout_s)
        return cast(CacheReport, await call)

    async def forget(
        self,
        tenant: str,
        texts: tuple[str, ...],
        fused: tuple[FusedSegment, ...],
        timeout_s: float,
    ) -> int:
        """By every replica: any of them may have kept some."""
        removed = await self.broadcast("forget", tenant, texts, fused, timeout_s=timeout_s)
        return sum(cast("list[int]", removed))


def _history(request: GenerateRequest) -> list[str]:
    """A text for each exchange of the conversation."""
    if request.raw_prompt is not None:
        return []
    exchanges = Conversation.of(request.messages).history
    return ["\n".join(message.content for message in exchange) for exchange in exchanges]
