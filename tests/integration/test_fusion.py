"""Fused segments over the real service: made, used, and gone with what they were made from."""

from collections.abc import Iterator

import pytest

from hyperrag import Client, Document
from tests.integration.service import SMALL, running

SETTINGS = {**SMALL, "generator": {"mode": "fusion", "fusion": {"neighbours": 2}}}
PLANETS = {
    "mars": "Mars is red because its soil holds rust.",
    "venus": "Venus is hot because its air holds carbon dioxide.",
    "saturn": "Saturn has rings that are made of ice.",
    "earth": "Earth is blue because oceans cover it.",
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("fusion")
    with running(folder, SETTINGS) as service, Client(service.url) as client:
        client.ingest(Document(name, text) for name, text in PLANETS.items())
        yield client


def num_segments(client: Client) -> int:
    return int(client.status()["tiers"]["dram"]["num_segments"])


def test_fused_segments_are_made_once_and_answer_in_any_order(client: Client) -> None:
    *_, made = client.fuse()
    assert (made["num_passages"], made["done"], made["cache"]["computed"]) == (4, True, 4)
    *_, again = client.fuse()
    assert (again["cache"]["computed"], again["cache"]["dram_hits"]) == (0, 4)
    for question in ("Why is Mars red?", "What are Saturn's rings made of?", "Why is Mars red?"):
        answer = client.ask(question, top_k=3, max_tokens=4)
        report = answer.cache["generate"]
        assert (report.mode, report.computed) == ("fusion", 0)


def test_a_deleted_document_takes_along_what_was_made_in_its_sight(client: Client) -> None:
    *_, _made = client.fuse()
    client.delete("mars")
    before = num_segments(client)
    *_, again = client.fuse()
    assert again["num_passages"] == 3
    assert again["cache"]["computed"] >= 1, "who had it for a neighbour has others now"
    assert num_segments(client) == before + again["cache"]["computed"]
