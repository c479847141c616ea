"""The short form of `make chaos`: small parts, real store and Serve; a shard and a node killed."""

import random
import time
from pathlib import Path

import pytest

from actors.messages import Document
from hyperrag import Client
from tests.bench.chaos import FAULTS
from tests.bench.chaos.ending import left_behind, lost_documents
from tests.bench.chaos.kills import kill, recover
from tests.bench.chaos.load import Asking, Notes, answers
from tests.bench.chaos.service import serving, two_of_each
from tests.cluster.nodes import SOON, eventually
from tests.cluster.running import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]
KILLED = ("shard", "node")
TOWNS = ("Arlen", "Bresk", "Corran", "Dunmere", "Elsop", "Farrow", "Galt", "Hest")
ASKED = {"top_n": 4, "top_k": 2, "max_tokens": 8}
STORE = {"dram_bytes": 2**20, "ssd_bytes": 2**22, "ticket_ttl_s": 10.0}


def test_kills_cost_time_and_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # nodes import the small parts
    rng = random.Random(0)
    documents = [Document(t, f"The mill of {t} was built {i} years ago.") for i, t in
                 enumerate(TOWNS)]  # fmt: skip
    config = two_of_each(tmp_path, 30.0, STORE | {"dram_dir": str(tmp_path)}, FAULTS)
    with serving(config, "tests.bench.chaos.small:build", SOON) as service:
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
            eventually(lambda: asking.outcomes.total() > 200, 60)
        with Client(service.url) as client:
            held, lost = left_behind(client), lost_documents(client, notes.taken)
    assert not asking.wrong and not asking.outcomes["silent"], asking.refusals
    assert asking.outcomes["right"] > 0.9 * asking.outcomes.total() > 200, asking.refusals
    assert (held, lost) == ([], []) and len(notes.taken) > 5
