"""A process that is forked from a client's: it holds nothing, and ends nothing."""

import multiprocessing
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Connection

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.holders import Holder, lives
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import assert_balanced, chain_of, fill, passage
from tests.kvstore.waiting import eventually

PATH = chain_of(passage(1))
TOO_LONG_S = 30.0


def _use(client: LocalStoreClient, lease_id: int, answers: Connection) -> None:
    """All that might end what the parent holds."""
    refused = False
    try:
        client.acquire([PATH], 1.0)
    except StoreUnavailableError:
        refused = True
    client.release(lease_id)  # type: ignore[arg-type]
    client.trim({lease_id: []})  # type: ignore[dict-item]
    client.close()
    answers.send(refused)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_it_ends_nothing_of_its_parents(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    acquired = client.acquire([PATH], 5)
    (ticket,) = acquired.tickets.values()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=_use, args=(client, acquired.lease_id, theirs)
    )
    child.start()
    assert ours.poll(TOO_LONG_S) and ours.recv(), "it is refused by its own client"
    child.join(TOO_LONG_S)
    assert lives(config.dram_dir, client.holder_id)
    fill(client, acquired, [ticket])
    client.commit(acquired, [ticket])
    assert store.stats().commits == 1
    assert_balanced(store)


_PARENT = """
import os, sys, time
from kvstore.holders import Holder
holder = Holder(sys.argv[1])
if os.fork() == 0:
    time.sleep(60)
    os._exit(0)
print(holder.holder_id, flush=True)
time.sleep(60)
"""


def test_its_life_is_not_its_parents(config: StoreConfig) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, config.dram_dir],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    holder_id = parent.stdout.readline().strip()
    try:
        assert lives(config.dram_dir, holder_id)  # type: ignore[arg-type]
        parent.kill()
        parent.wait(TOO_LONG_S)
        ended = eventually(lambda: not lives(config.dram_dir, holder_id), TOO_LONG_S)  # type: ignore[arg-type]
        assert ended, "with its process, though a child of it lives"
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.stdout.close()


def test_a_holder_is_held_until_it_is_closed(config: StoreConfig) -> None:
    holder = Holder(config.dram_dir)
    assert holder.is_held
    holder.close()
    assert not holder.is_held
