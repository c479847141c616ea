"""The reranker behind Serve handles: each replica ranks the passages that it keeps."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from actors.messages import CacheReport, PrecomputeRequest, RerankRequest, RerankResult
from cluster import replicas
from cluster.remote import Remote
from cluster.splitting import Part, counted, split

T = TypeVar("T")

CHANCE = 3.0
"""Few passages do not fall evenly, and who spills them sends them where they are not kept: what
falls to a replica by chance, at so many standard deviations, is never too much."""


@dataclass(frozen=True, slots=True)
class RemoteReranker(Remote):
    """Passages go to the replica that keeps them, as far as there are several."""

    open_texts: Counter[str] = field(default_factory=Counter)
    """What each replica is ranking for this process."""

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """In parts, one for each replica that keeps some of the passages."""
        parts = self._parts(request.texts)
        calls = [self._ask("rerank", request, part) for part in parts]
        return merged(parts, cast("list[RerankResult]", await together(calls)))

    async def precompute(self, request: PrecomputeRequest) -> CacheReport:
        calls = [self._ask("precompute", request, part) for part in self._parts(request.texts)]
        return sum(cast("list[CacheReport]", await together(calls)), start=CacheReport())

    async def forget(self, tenant: str, texts: tuple[str, ...], timeout_s: float) -> int:
        """By every replica: any of them may have kept some."""
        removed = await self.broadcast("forget", tenant, texts, timeout_s=timeout_s)
        return sum(cast("list[int]", removed))

    def _parts(self, texts: Sequence[str]) -> list[Part]:
        names = replicas.known(self.handle.deployment_name)
        return split(texts, names, self.open_texts, CHANCE)

    async def _ask(
        self, method: str, request: RerankRequest | PrecomputeRequest, part: Part
    ) -> RerankResult | CacheReport:
        texts = tuple(request.texts[i] for i in part.indices)
        own = replace(request, texts=texts, replicas=part.replicas)
        with counted(self.open_texts, part.replicas, len(texts)):
            return cast(
                "RerankResult | CacheReport",
                await self.call(method, own, timeout_s=request.timeout_s),
            )


async def together(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them, in their order; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def merged(parts: Sequence[Part], results: Sequence[RerankResult]) -> RerankResult:
    """In the order of the texts that were split."""
    found = [
        (i, score)
        for part, result in zip(parts, results, strict=True)
        for i, score in zip(part.indices, result.log_likelihoods, strict=True)
    ]
    return RerankResult(
        tuple(score for _, score in sorted(found)),
        sum(result.num_tokens for result in results),
        sum((result.cache for result in results), start=CacheReport()),
        max(result.seconds for result in results),
        results[0].scale,
        tuple(
            sorted(
                (
                    replace(cut, index=part.indices[cut.index])
                    for part, result in zip(parts, results, strict=True)
                    for cut in result.cuts
                ),
                key=lambda cut: cut.index,
            )
        ),
        results[0].excerpt_chars,
    )
