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
from cluster.paths import RoutedPaths
from cluster.remote import Remote, name_apart, translated
from cluster.splitting import bound_of, counted, split


@dataclass(frozen=True, slots=True)
class RemoteGenerator(Remote):
    """A prompt goes to the replica that has answered from most of its leading passages."""

    open_requests: Counter[str] = field(default_factory=Counter)
    """Of this process, by the replica they were meant for."""
    paths: RoutedPaths = field(default_factory=RoutedPaths)

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
        """Where the longest path is, unless that replica has its share to do; a new first passage
        has its replica by rendezvous."""
        names = replicas.known(self.handle.deployment_name)
        order = split(passages[:1], names, self.open_requests)[0].replicas
        if not order:
            return ()
        bound = bound_of(names, self.open_requests, 1)
        return self.paths.order(passages, order, lambda name: self.open_requests[name] < bound)

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
