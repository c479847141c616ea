"""The generator behind Serve handles: who has a prompt's chain answers it, unless it is busy."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from actors.messages import (
    CacheReport,
    FusedSegment,
    FuseRequest,
    GenerateChunk,
    GenerateRequest,
)
from cluster import replicas
from cluster.remote import Remote, name_apart, translated
from cluster.splitting import counted, split


@dataclass(frozen=True, slots=True)
class RemoteGenerator(Remote):
    """A prompt goes to the replica that has answered from its first passage before."""

    open_requests: Counter[str] = field(default_factory=Counter)
    """Of this process, by the replica they were meant for."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateChunk]:
        names = self._order(request.passages)
        with counted(self.open_requests, names, 1), translated(self.name):
            name_apart()
            call = self.handle.options(method_name="generate", stream=True)
            stream = call.remote(replace(request, replicas=names))
            try:
                async for chunk in stream:
                    yield chunk
            finally:
                stream.cancel()

    def _order(self, passages: Sequence[str]) -> tuple[str, ...]:
        """By the first passage, under which a prefix's chain lies; the others follow it there."""
        names = replicas.known(self.handle.deployment_name)
        return split(passages[:1], names, self.open_requests)[0].replicas

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
