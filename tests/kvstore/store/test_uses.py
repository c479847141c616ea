"""What was used stays what was used, over restarts and crashes."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kvstore.config import POLICIES, PolicyName, StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.uses import NAME, Remembered, decode
from tests.kvstore.segments import assert_balanced, chain_of, passage, store_path
from tests.kvstore.waiting import eventually
from tests.tracked import ROOT

OFTEN = chain_of(passage(0, 64), own_prefix=True)
OTHERS = [chain_of(passage(n, 64), own_prefix=True) for n in range(1, 12)]


@contextmanager
def running(config: StoreConfig) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert store.flush(20)
    yield store, client
    client.close()
    store.close()


def use(store: KVStore, client: LocalStoreClient) -> None:
    """The oldest file is that of what is used most."""
    store_path(client, OFTEN)
    for other in OTHERS:
        store_path(client, other)
    assert store.flush(20)
    for _ in range(50):
        client.release(client.acquire([OFTEN], 5).lease_id)


def with_little_room(config: StoreConfig) -> StoreConfig:
    """For two of the segments that are there."""
    largest = max(file.stat().st_size for file in Path(config.ssd_dir).glob("?/?/*"))
    return replace(config, ssd_bytes=2 * largest + 4096)


def is_on_ssd(client: LocalStoreClient) -> bool:
    key = OFTEN[0].key
    return client.locate([key]) == {key: "ssd"}


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_used_often_stays_where_a_restart_has_little_room(
    config: StoreConfig, policy: PolicyName
) -> None:
    config = replace(config, policy=policy)
    with running(config) as (store, client):
        use(store, client)
    with running(with_little_room(config)) as (store, client):
        assert store.stats().ssd.num_segments < len(OTHERS)
        assert is_on_ssd(client)
        assert_balanced(store)


def test_uses_count_on_over_many_restarts(config: StoreConfig) -> None:
    """Being found again is no use, and being found often is no reason to stay."""
    config = replace(config, policy="lfu")
    with running(config) as (store, client):
        use(store, client)
    for _ in range(3):
        with running(config):
            pass
    with running(config) as (store, _):
        policy = store._books.levels[0].shelf.policy
        uses = {key: history.uses for key, history in policy.learned().latest(100)}
        assert uses[OFTEN[0].key] > 50 and {uses[other[0].key] for other in OTHERS} == {1}


LIVES = """
import json, sys
from kvstore import remembering
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.store.test_uses import use
remembering.SAVE_S = 0.05
settings = json.loads(sys.argv[1])
config = StoreConfig(**{**settings, "faults": tuple(settings["faults"])})
store = KVStore(config, "node")
client = LocalStoreClient(store, config.dram_dir)
use(store, client)
print("used", flush=True)
sys.stdin.read()
"""


def test_what_was_used_often_stays_after_a_kill(config: StoreConfig) -> None:
    command = [sys.executable, "-c", LIVES, json.dumps(asdict(config))]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"used\n"
    file, used = Path(config.ssd_dir) / NAME, OFTEN[0].key
    assert eventually(lambda: used in [k for k, h in ssd_uses(file) if h.uses > 50], 20)
    child.kill()
    child.communicate()
    with running(with_little_room(config)) as (store, client):
        assert store.stats().ssd.num_segments < len(OTHERS)
        assert is_on_ssd(client)


def ssd_uses(file: Path) -> list[Remembered]:
    return list(decode(file.read_bytes()).tiers["ssd"]) if file.exists() else []


def test_a_damaged_file_is_no_more_than_an_unknown_order(
    config: StoreConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with running(config) as (store, client):
        use(store, client)
    file = Path(config.ssd_dir) / NAME
    right = file.read_bytes()
    file.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    with caplog.at_level(logging.WARNING), running(config) as (store, client):
        assert store.stats().ssd.num_segments == len(OTHERS) + 1
        assert is_on_ssd(client)
    assert "not known" in caplog.text
    assert ssd_uses(file), "it was written anew"


def test_a_file_that_cannot_be_written_stops_nothing(
    config: StoreConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with running(config) as (store, client):
        use(store, client)
        (Path(config.ssd_dir) / f"{NAME}.new").mkdir()
    assert "not kept" in caplog.text
    with running(config) as (store, _):
        assert store.stats().ssd.num_segments == len(OTHERS) + 1
