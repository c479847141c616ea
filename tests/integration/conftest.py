"""One real service for the whole session: Ray, Serve, the small real model, a temporary folder."""

from collections.abc import Iterator

import httpx
import pytest

from hyperrag import Client, Document
from tests.integration.service import Service, running

FACTS = {
    "moon": "The harbour of Port Lorn is lit by a lamp called Old Maren, which burns whale oil.",
    "tea": "The village of Asket grows a blue tea. It is picked in March and dried on slate roofs.",
    "train": "The night train to Velmark leaves from platform nine at a quarter past eleven.",
    "bridge": "The Corran bridge was built in 1874 by Ida Feld. It has seven arches of red stone.",
}
QUESTIONS = {
    "moon": "What does the lamp Old Maren burn?",
    "tea": "In which month is the blue tea of Asket picked?",
    "train": "From which platform does the night train to Velmark leave?",
    "bridge": "Who built the Corran bridge?",
}
COLLECTION = "facts"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture(scope="session")
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, timeout_s=180) as made:
        yield made


@pytest.fixture(scope="session")
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=180) as made:
        yield made


@pytest.fixture
def facts(client: Client) -> str:
    """The collection of FACTS, as a test finds it: complete."""
    client.ingest([Document(name, text) for name, text in FACTS.items()], COLLECTION)
    return COLLECTION
