"""The ingress over small parts in this process, reached through ASGI."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.types import ASGIApp

from cluster.config import HyperRagConfig
from cluster.ingress.app import create_app
from cluster.ingress.context import Context
from cluster.ingress.keys import ApiKeys, KeyFile
from cluster.metrics.request import Instruments
from cluster.services import Services
from tests.cluster.near import NearIngress, near_services
from tests.cluster.parts import parse_lines

DOCUMENTS = [
    {"id": "sky", "text": "the sky is blue"},
    {"id": "grass", "text": "grass is green in spring"},
    {"id": "snow", "text": "snow is white in winter"},
]

ASK = [{"role": "user", "content": "is the sky blue"}]

MakeApp = Callable[..., ASGIApp]
BASE = "http://127.0.0.1"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return near_services(tmp_path / "corpus")


@pytest.fixture
def make_app(services: Services) -> MakeApp:
    def make(
        keys: ApiKeys | KeyFile | None = None,
        parts: Services = services,
        config: HyperRagConfig | None = None,
        **ingress: Any,
    ) -> ASGIApp:
        config = config or HyperRagConfig()
        config = config.model_copy(update={"ingress": replace(config.ingress, **ingress)})
        instruments = Instruments("1", config.ingress.max_queued_requests)
        parts = replace(parts, ingress=NearIngress(instruments))
        return create_app(Context(config, parts, keys or ApiKeys({}), parse_lines, instruments))

    return make


def connect(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, timeout=20)


@pytest.fixture
async def client(make_app: MakeApp) -> AsyncIterator[httpx.AsyncClient]:
    """A service without any document."""
    async with connect(make_app()) as http:
        yield http


@pytest.fixture
async def filled(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A service with three documents."""
    response = await client.post("/v1/documents", json={"documents": DOCUMENTS})
    assert response.status_code == 200, response.text
    return client


@pytest.fixture
async def sdk(filled: httpx.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    http: Any = filled  # typed as another HTTP library's client of the same interface
    async with openai.AsyncOpenAI(
        api_key="none", base_url="http://127.0.0.1/v1", http_client=http, max_retries=0
    ) as client:
        yield client


async def chat(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={"messages": ASK, **body})
