"""The end of a store takes the time that it is given, whatever hangs."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kvstore.closing import close
from kvstore.config import StoreConfig
from kvstore.errors import KVStoreError, StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.folder import Folder
from tests.kvstore.segments import chain_of, passage, small_config, store_path
from tests.kvstore.waiting import eventually

PATHS = [chain_of(passage(number)) for number in range(4)]
TIMEOUT_S = 2.0
TOO_LONG_S = 30.0


class Hanging:
    """Threads that take all the time they get."""

    def __init__(self, log: list[tuple[str, float]]) -> None:
        self._log = log

    def drain(self, give_up: float) -> None:
        self._log.append(("drain", give_up))

    def stop(self) -> None:
        self._log.append(("stop", 0.0))

    def await_end(self, give_up: float) -> None:
        self._log.append(("wait", give_up))
        time.sleep(max(0.0, give_up - time.monotonic()))


def test_all_have_one_deadline_and_are_told_before_any_is_waited_for(config: StoreConfig) -> None:
    store, log = KVStore(config, "node"), list[tuple[str, float]]()
    close(store._books, [Hanging(log)], [Hanging(log), Hanging(log)], 0.2)
    after = [line for line in log if line[0] != "drain"]
    waits = {give_up for what, give_up in log if what == "wait"}
    assert [what for what, _ in after] == ["stop", "wait", "stop", "stop", "wait", "wait", "wait"]
    assert len(waits) == 2 and min(waits) < max(waits), "for writing, and for all the rest"
    assert max(waits) - min(waits) == pytest.approx(0.05)
    with pytest.raises(StoreUnavailableError):
        store.stats()


def test_a_disk_that_hangs_everywhere_takes_the_time_once(tmp_path: Path) -> None:
    with_all = KVStore(small_config(tmp_path), "node")
    client = LocalStoreClient(with_all, with_all._config.dram_dir)
    store_path(client, *PATHS[:2])
    assert with_all.flush(10)
    client.close()
    with_all.close()
    config = small_config(tmp_path, faults=("sync delay 0.0",), remove_timeout_s=0.2)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert store.flush(10)
    medium = store._books.levels[0].tier._medium
    assert isinstance(medium, Folder) and isinstance(medium._files, FaultyFiles)
    lines = ("read hang", "write hang", "unlink hang")
    medium._files.fail_with([Fault.parse(line) for line in lines])
    client.acquire([PATHS[0]], 0.1, claim=False)
    remover = threading.Thread(target=lambda: _removed(client), daemon=True)
    remover.start()
    store_path(client, PATHS[3])
    assert eventually(lambda: store._books.levels[0].writing is not None, TOO_LONG_S)
    begin = time.monotonic()
    store.close(TIMEOUT_S)
    assert time.monotonic() - begin < 2.5 * TIMEOUT_S, "once, and not for each that hangs"
    medium._files.heal()
    client.close()


def _removed(client: LocalStoreClient) -> None:
    with suppress(KVStoreError):  # it is neither made nor noted
        client.remove_tags([PATHS[1][0].tag])
