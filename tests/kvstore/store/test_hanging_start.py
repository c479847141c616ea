"""A store whose disk hangs at its start: it starts, and serves what it may when that is back."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from kvstore import burial, deletions, writeback
from kvstore.errors import RemovalError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers import folder, slow
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.folder import Folder
from kvstore.tiers.medium import Listed
from kvstore.tiers.segment_files import new_name
from kvstore.tiers.slow import SlowTier
from tests.kvstore.media import disk_of
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.waiting import eventually

GONE, KEPT = chain_of(TRUNK, passage(1)), chain_of(TRUNK, passage(2))
TOO_LONG_S = 30.0
T = TypeVar("T")


def in_time(make: Callable[[], T]) -> T:
    """What it makes, on a thread that the test can leave behind."""
    made: list[T] = []
    thread = threading.Thread(target=lambda: made.append(make()), daemon=True)
    thread.start()
    thread.join(TOO_LONG_S)
    assert made, "it hangs"
    return made[0]


def found(client: LocalStoreClient) -> int:
    acquired = client.acquire([GONE, KEPT], 10, claim=False)
    assert_right_bytes(client, acquired)
    client.release(acquired.lease_id)
    return len(acquired.hits)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burial, "_WAIT_S", 0.2)
    monkeypatch.setattr(folder, "_START_S", 0.2)
    monkeypatch.setattr(slow, "_COUNT_S", 0.2)
    monkeypatch.setattr(writeback, "_PAUSE_S", 0.1)


def test_a_list_of_deletions_that_hangs_is_kept_when_the_disk_is_back(tmp_path: Path) -> None:
    config = small_config(tmp_path, faults=("unlink eio",), remove_timeout_s=0.4)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, GONE, KEPT)
    assert store.flush(10)
    client.remove_tags([GONE[1].tag])
    client.close()
    store.close(1)
    assert (tmp_path / "ssd" / deletions.NAME).exists()
    config = small_config(tmp_path, faults=("read hang",), remove_timeout_s=0.4)
    store = in_time(lambda: KVStore(config, "node"))
    client = LocalStoreClient(store, config.dram_dir)
    assert found(client) == 0, "nobody knows what may be served"
    (line,) = store.check().unchecked
    assert line.startswith("ssd: ") and "list of deletions is not read" in line
    with pytest.raises(RemovalError, match="not read yet"):
        client.remove_tags([KEPT[1].tag])
    disk_of(store).heal()
    assert eventually(lambda: found(client) == 1, TOO_LONG_S), "the trunk: both passages are gone"
    assert eventually(lambda: not store.stats().ssd.tombstones, TOO_LONG_S)
    for spec in (GONE[1], KEPT[1]):
        assert not list((tmp_path / "ssd").glob(f"?/?/{spec.key}.*"))
    assert_balanced(store)
    client.close()
    store.close(1)


def test_a_quarantine_that_cannot_be_trimmed_holds_no_start_up(tmp_path: Path) -> None:
    Folder(tmp_path, 0).close()
    path = tmp_path / "quarantine" / new_name(KEPT[0].key)
    path.write_bytes(b"damaged")
    files = FaultyFiles([Fault.parse("unlink hang")])
    medium = in_time(lambda: Folder(tmp_path, 0, files))
    files.heal()
    assert eventually(lambda: not path.exists(), TOO_LONG_S)
    medium.close()


class HangingFolder(Folder):
    """It lists nothing before it is let."""

    def __init__(self, path: Path) -> None:
        self.go_on = threading.Event()
        super().__init__(path, 0)

    def list(self):  # type: ignore[no-untyped-def]
        self.go_on.wait()
        return iter(list[Listed]())


def test_a_full_disk_that_cannot_be_listed_holds_no_start_up(tmp_path: Path) -> None:
    medium = HangingFolder(tmp_path)
    tier = in_time(lambda: SlowTier(medium, 2**60, 0.5))
    assert tier.capacity_bytes > 0
    medium.go_on.set()
    tier.close()
