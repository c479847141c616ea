"""The short form of `make chaos`: small parts, real store and Serve; a shard and a node killed."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from actors.messages import Document
from cluster.config import HyperRagConfig
from hyperrag import Client
from tests.bench.chaos import FAULTS
from tests.bench.chaos.ending import left_behind, lost_documents
from tests.bench.chaos.kills import kill, recover
from tests.bench.chaos.load import Asking, Notes, answers
from tests.bench.chaos.service import serving
from tests.cluster.running import ROOT, free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]
KILLED = ("shard", "node")
TOWNS = ("Arlen", "Bresk", "Corran", "Dunmere", "Elsop", "Farrow", "Galt", "Hest")
ASKED = {"top_n": 4, "top_k": 2, "max_tokens": 8}


def config_in(folder: Path) -> HyperRagConfig:
    twice = {"num_replicas": 2}
    config = HyperRagConfig.parse(
        {
            "data_dir": str(folder / "data"),
            "retrieval": twice,
            "reranker": twice,
            "generator": twice,
            "ingress": twice | {"port": free_port(), "request_timeout_s": 30.0},
            "store": {
                "dram_bytes": 2**20,
                "dram_dir": str(folder),
                "ssd_bytes": 2**22,
                "ticket_ttl_s": 10.0,
                "ssd_dir": str(folder / "segments-{node}"),
            },
        }
    )
    return config.model_copy(update={"store": replace(config.store, faults=FAULTS)}).resolved()


def test_kills_cost_time_and_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # nodes import the small parts
    rng = random.Random(0)
    documents = [Document(t, f"The mill of {t} was built {i} years ago.") for i, t in
                 enumerate(TOWNS)]  # fmt: skip
    with serving(config_in(tmp_path), "tests.bench.chaos.small:build") as service:
        with Client(service.url) as client:
            client.ingest(documents)
        questions = [f"When was the mill of {town} built?" for town in TOWNS]
        known = answers(service.url, questions, ASKED)
        asking = Asking(service.url, known, ASKED, timeout_s=30.0)
        with asking, Notes(service.url, every_s=1.0) as notes:
            for kind in KILLED:
                time.sleep(2.0)
                kill(service, kind, rng)
                recover(service, kind)
        with Client(service.url) as client:
            held, lost = left_behind(client), lost_documents(client, notes.taken)
    assert not asking.wrong and not asking.outcomes["silent"], asking.refusals
    assert asking.outcomes["right"] > 0.9 * asking.outcomes.total() > 200, asking.refusals
    assert (held, lost) == ([], []) and len(notes.taken) > 5
