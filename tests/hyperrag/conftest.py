"""A scripted service on a free port."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.hyperrag.server import Script, make_server


@dataclass(frozen=True)
class Service:
    url: str
    script: Script


@pytest.fixture
def service() -> Iterator[Service]:
    script = Script()
    server = make_server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Service(f"http://127.0.0.1:{server.server_port}", script)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def answer() -> dict[str, Any]:
    """A whole answer of `POST /v1/rag/query`, with a field of a newer service."""
    report = {
        "device_hits": 0,
        "dram_hits": 18,
        "ssd_hits": 1,
        "peer_hits": 0,
        "remote_hits": 0,
        "computed": 1,
        "tokens_reused": 4000,
        "tokens_computed": 300,
        "bytes_moved": 2**20,
        "store": "used",
    }
    source = {
        "document_id": "with",
        "ordinal": 0,
        "start": 0,
        "end": 9,
        "text": "The [with] statement",
        "score": 0.5,
        "cosine": 0.7,
        "log_likelihood": -1.2,
    }
    return {
        "id": "r-1",
        "answer": "It wraps a block [safely].",
        "finish_reason": "stop",
        "sources": [source],
        "timings_ms": {"search": 1.0, "rerank": 20.0, "generate": 30.0, "ttft": 9.0, "total": 51.0},
        "cache": {"rerank": report, "generate": report},
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        "from_the_future": True,
    }
