"""Answers that are generated side by side, as one stream."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from actors.errors import UnavailableError
from actors.messages import CacheReport, GenerateChunk, Sampling, TokenLogprob
from cluster.query import Choice

Chunks = AsyncGenerator[GenerateChunk]

_AHEAD = 64
"""Chunks that wait for whoever reads them."""


@dataclass(slots=True)
class Growing:
    """One choice in the making."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    last: GenerateChunk = GenerateChunk("", "error")

    def take(self, chunk: GenerateChunk) -> None:
        self.text += chunk.text
        self.logprobs += chunk.logprobs
        self.last = chunk

    def made(self) -> Choice:
        """Raises UnavailableError when it did not come to an end."""
        reason = self.last.finish_reason
        if reason is None or reason == "error":
            raise UnavailableError("the generator could not finish the answer; try again")
        return Choice(self.text, reason, self.logprobs)


def samplings(sampling: Sampling, num: int) -> list[Sampling]:
    """One for each choice: with a seed all draw differently, and the same again."""
    seed = sampling.seed
    if seed is None:
        return [sampling] * num
    return [replace(sampling, seed=(seed + i) % 2**63 if i else seed) for i in range(num)]


async def side_by_side(streams: Sequence[Chunks]) -> AsyncGenerator[tuple[int, GenerateChunk]]:
    """Chunks with the index of their stream, as they come. The first error ends all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as chunks:
            async for chunk in chunks:
                yield 0, chunk
        return
    queue: asyncio.Queue[tuple[int, GenerateChunk | None]] = asyncio.Queue(_AHEAD)

    async def read(index: int, stream: Chunks) -> None:
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                await queue.put((index, chunk))
        await queue.put((index, None))

    tasks = [asyncio.create_task(read(i, stream)) for i, stream in enumerate(streams)]
    try:
        num_open = len(tasks)
        while num_open:
            index, next_one = await _next(queue, tasks)
            if next_one is None:
                num_open -= 1
            else:
                yield index, next_one
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _next(
    queue: asyncio.Queue[tuple[int, GenerateChunk | None]], tasks: Sequence[asyncio.Task[None]]
) -> tuple[int, GenerateChunk | None]:
    """Raises what one of the tasks has raised."""
    getting = asyncio.ensure_future(queue.get())
    try:
        while not getting.done():
            for task in tasks:
                if task.done():
                    task.result()
            running = [task for task in tasks if not task.done()]
            await asyncio.wait([getting, *running], return_when=asyncio.FIRST_COMPLETED)
        return getting.result()
    finally:
        getting.cancel()


def report(growing: Sequence[Growing]) -> CacheReport:
    """Of all of them."""
    reports = [one.last.cache or CacheReport(store="off") for one in growing]
    return sum(reports[1:], start=reports[0])
