"""Requests of every kind at a fixed rate, whatever becomes of them, for as long as a block runs."""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

TIMEOUT_S = 120.0
"""Longer than the service's own: a request that takes too long is its failure, not ours."""
DOCUMENT = {"id": "sky", "text": "the sky is blue"}
ANSWER = "the sky is blue "
ASK = {"question": "is the sky blue", "top_k": 1}
SLOWLY = {"question": "slowly is the sky blue", "top_k": 1, "stream": True}
"""A second for each word of the answer: it goes on while its replica is replaced."""


@dataclass(frozen=True, slots=True)
class Outcome:
    kind: str
    begun: float
    """`time.monotonic()`"""
    seconds: float
    error: str
    """Empty when the answer was the right one."""


class Traffic:
    def __init__(self, url: str, rate: float) -> None:
        self._url, self._gap_s = url, 1 / rate
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    @property
    def errors(self) -> list[str]:
        return [f"{o.kind}: {o.error}" for o in self.outcomes if o.error]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Requests in progress are waited for."""
        self._ended.set()
        self._thread.join()

    async def _run(self) -> None:
        started = time.monotonic()
        limits = httpx.Limits(max_connections=None)
        client = httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT_S, limits=limits)
        async with client as http, asyncio.TaskGroup() as requests:
            for number, kind in enumerate(itertools.cycle(MIX)):
                await asyncio.sleep(started + number * self._gap_s - time.monotonic())
                if self._ended.is_set():
                    return
                requests.create_task(self._request(http, kind))

    async def _request(self, http: httpx.AsyncClient, kind: str) -> None:
        begun = time.monotonic()
        try:
            error = await KINDS[kind](http)
        except httpx.HTTPError as failed:
            error = f"{type(failed).__name__}: {failed}"
        self.outcomes.append(Outcome(kind, begun, time.monotonic() - begun, error))


async def _question(http: httpx.AsyncClient) -> str:
    response = await http.post("/v1/rag/query", json=ASK)
    return _wrong(response) or _differs(response.json()["answer"], ANSWER)


async def _stream(http: httpx.AsyncClient) -> str:
    async with http.stream("POST", "/v1/rag/query", json=SLOWLY) as response:
        lines = [line async for line in response.aiter_lines() if line]
    if response.status_code != 200:
        return f"HTTP {response.status_code}: {''.join(lines)[:60]}"
    events = [line.removeprefix("data: ") for line in lines]
    if events[-1] != "[DONE]":
        return f"ends with {events[-1]}"
    last = json.loads(events[-2])
    return _differs(last.get("answer", last), ANSWER)


async def _rerank(http: httpx.AsyncClient) -> str:
    documents = ["snow is white", "the sky is blue"]
    body = {"query": "is the sky blue", "documents": documents}
    response = await http.post("/v1/rerank", json=body)
    return _wrong(response) or _differs(response.json()["results"][0]["index"], 1)


async def _ingest(http: httpx.AsyncClient) -> str:
    response = await http.post("/v1/documents", json={"documents": [DOCUMENT]})
    return _wrong(response) or _differs(response.json()["searchable"], True)


def _wrong(response: httpx.Response) -> str:
    return "" if response.is_success else f"HTTP {response.status_code}: {response.text[:60]}"


def _differs(got: Any, wanted: Any) -> str:
    return "" if got == wanted else f"answered {got!r}"


KINDS: dict[str, Callable[[httpx.AsyncClient], Awaitable[str]]] = {
    "question": _question, "stream": _stream, "rerank": _rerank, "ingest": _ingest,
}  # fmt: skip
MIX = ("question", "rerank", "question", "stream", "question", "ingest", "question", "rerank",
       "question", "stream")  # fmt: skip
