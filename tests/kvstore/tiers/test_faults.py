"""Every way in which a disk can fail costs time, never a wrong byte."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.folder_lock import LOCK
from kvstore.tiers.store_folder import MARK
from tests.kvstore.media import disk_of
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    passage,
    small_config,
    store_path,
)

PATHS = [chain_of([7] * 8, passage(i, 64)) for i in range(4)]


def with_segments(
    folder: Path, *faults: str, read_timeout_s: float = 5.0
) -> tuple[KVStore, LocalStoreClient]:
    """A store whose sound SSD was filled with all paths before its disk began to fail."""
    config = small_config(folder)
    filled = KVStore(config, "node")
    client = LocalStoreClient(filled, config.dram_dir)
    store_path(client, *PATHS)
    assert filled.flush(5)
    client.close()
    filled.close()
    return opened(folder, *faults, read_timeout_s=read_timeout_s)


def opened(
    folder: Path, *faults: str, read_timeout_s: float = 5.0
) -> tuple[KVStore, LocalStoreClient]:
    config = small_config(folder, faults=faults, read_timeout_s=read_timeout_s)
    store = KVStore(config, "node")
    store.flush(5)  # it has read the headers now
    return store, LocalStoreClient(store, config.dram_dir)


def closed(store: KVStore, client: LocalStoreClient) -> None:
    disk_of(store).heal()
    client.close()
    assert_balanced(store)
    store.close()


def test_a_slow_disk_is_waited_for_until_the_deadline(tmp_path: Path) -> None:
    # Recovery reads a header of each of the five files; the tenth read is of a layer.
    store, client = with_segments(tmp_path, "read delay 0.3 at 10")
    began = time.monotonic()
    acquired = client.acquire(PATHS, 5)
    assert time.monotonic() - began > 0.25 and len(acquired.hits) == 5
    assert_right_bytes(client, acquired)
    closed(store, client)


def test_a_disk_of_a_low_rate_takes_its_time_for_all_its_readers_together(tmp_path: Path) -> None:
    store, client = with_segments(tmp_path, "read rate 1e6")
    nbytes = sum(spec.layout.nbytes for spec in {spec for path in PATHS for spec in path})
    started = time.monotonic()
    acquired = client.acquire(PATHS, 30)
    took_s = time.monotonic() - started
    assert len(acquired.hits) == 5
    assert nbytes / 1e6 <= took_s < 3 * nbytes / 1e6 + 1
    closed(store, client)


def test_a_hanging_disk_costs_the_deadline_and_no_more(tmp_path: Path) -> None:
    store, client = with_segments(tmp_path, "read hang at 10")
    began = time.monotonic()
    acquired = client.acquire(PATHS[:1], 0.5)
    assert time.monotonic() - began < 3
    assert len(acquired.hits) + len(acquired.tickets) == 2 and acquired.tickets
    assert_right_bytes(client, acquired)
    closed(store, client)


def test_a_disk_that_hangs_is_left_alone_until_it_answers(tmp_path: Path) -> None:
    store, client = with_segments(tmp_path, "read hang at 10", read_timeout_s=0.3)
    began = time.monotonic()
    acquired = client.acquire(PATHS[:1], 30)
    assert 0.2 < time.monotonic() - began < 5 and acquired.tickets
    began = time.monotonic()
    others = client.acquire(PATHS[1:], 30)
    assert time.monotonic() - began < 0.2
    assert all(hit.tier == "dram" for hit in others.hits.values())
    disk_of(store).heal()
    client.release(acquired.lease_id)
    client.release(others.lease_id)
    give_up = time.monotonic() + 5
    while store._books.levels[0].slow and time.monotonic() < give_up:
        time.sleep(0.02)
    assert len(client.acquire(PATHS, 5).hits) == 5
    closed(store, client)


@pytest.mark.parametrize("fault", ["open eio share 0.7", "read eio share 0.5"])
def test_what_cannot_be_read_is_computed(tmp_path: Path, fault: str) -> None:
    store, client = with_segments(tmp_path, fault)
    acquired = client.acquire(PATHS, 5)
    wanted = {spec.key for path in PATHS for spec in path}
    assert acquired.tickets and {*acquired.hits, *acquired.tickets} == wanted
    assert_right_bytes(client, acquired)
    assert store.stats().corrupt == 0, "a failing disk says nothing about the segment"
    closed(store, client)


def test_files_that_cannot_be_read_at_the_start_keep_their_room(tmp_path: Path) -> None:
    """They may be sound, so they stay, and what stays counts."""
    store, client = with_segments(tmp_path, "open eio")
    stats = store.stats()
    on_disk = sum(path.stat().st_size for path in (tmp_path / "ssd").glob("?/?/*"))
    assert stats.ssd.num_segments == 0 and stats.ssd.used_bytes == on_disk > 0
    closed(store, client)
    store, client = opened(tmp_path, "read delay 0")
    assert store.stats().ssd.num_segments == 5
    closed(store, client)


@pytest.mark.parametrize("fault", ["read flip share 0.5", "read short"])
def test_wrong_bytes_never_reach_a_reader(tmp_path: Path, fault: str) -> None:
    store, client = with_segments(tmp_path)
    closed_plain(store, client)
    config = small_config(tmp_path, faults=(fault,))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire(PATHS, 5)
    assert acquired.tickets, "some did not survive"
    assert_right_bytes(client, acquired)
    quarantined = list((tmp_path / "ssd" / "quarantine").iterdir())
    assert quarantined and store.stats().corrupt <= len(quarantined)
    closed(store, client)


def closed_plain(store: KVStore, client: LocalStoreClient) -> None:
    client.close()
    store.close()


def test_a_short_read_is_continued(tmp_path: Path) -> None:
    store, client = with_segments(tmp_path, "read short at 10")
    acquired = client.acquire(PATHS, 5)
    assert len(acquired.hits) == 5
    assert_right_bytes(client, acquired)
    closed(store, client)


@pytest.mark.parametrize("kind", ["enospc", "erofs", "eio"])
@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename"])
def test_a_disk_that_takes_nothing_leaves_the_store_in_memory(
    tmp_path: Path, operation: str, kind: str
) -> None:
    store, client = opened(tmp_path, f"{operation} {kind}")
    store_path(client, *PATHS)
    assert store.flush(5)
    stats = store.stats()
    assert stats.ssd.write_failures >= 1 and stats.ssd.num_segments == 0
    assert len(client.acquire(PATHS, 5).hits) == 5
    files = [p for p in (tmp_path / "ssd").rglob("*") if p.is_file() and p.name not in (LOCK, MARK)]
    assert files == [], "nothing half written stays"
    closed(store, client)


def test_short_writes_are_continued(tmp_path: Path) -> None:
    store, client = opened(tmp_path, "write short share 0.7")
    store_path(client, *PATHS)
    assert store.flush(5) and store.stats().ssd.num_segments == 5
    closed(store, client)
    again, client = opened(tmp_path, "write short")
    acquired = client.acquire(PATHS, 5)
    assert len(acquired.hits) == 5
    assert_right_bytes(client, acquired)
    closed(again, client)


CHILD = """
import sys
from pathlib import Path
from tests.kvstore.tiers.test_faults import PATHS, opened
from tests.kvstore.segments import store_path
store, client = opened(Path(sys.argv[1]), sys.argv[2])
for i, path in enumerate(PATHS):
    store_path(client, path)
    assert store.flush(10)
    print(i, flush=True)
"""


@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize("operation", ["create", "write", "sync", "rename"])
def test_killed_between_any_two_steps(tmp_path: Path, operation: str, at: int) -> None:
    """What was flushed is there afterwards, and nothing that is there is partial."""
    command = [sys.executable, "-c", CHILD, str(tmp_path), f"{operation} crash at {at}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == -9, done.stderr
    store, client = opened(tmp_path, "read delay 0")
    acquired = client.acquire(PATHS, 5)
    for i in map(int, done.stdout.split()):
        assert all(spec.key in acquired.hits for spec in PATHS[i]), f"path {i} was acknowledged"
    assert_right_bytes(client, acquired)
    assert not list((tmp_path / "ssd" / "tmp").glob("*"))
    assert not list((tmp_path / "ssd" / "quarantine").glob("*"))
    closed(store, client)


@pytest.mark.parametrize(
    "line",
    ["", "read", "read explode", "dance eio", "read delay", "read delay x", "read eio at",
     "read eio when 3", "sync flip", "rename short", "read eio at 1 share 1"],
)  # fmt: skip
def test_a_bad_line_is_named_with_what_is_allowed(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"is no fault: "):
        Fault.parse(line)
    with pytest.raises(StoreConfigError, match=r"store\.faults: .* is no fault"):
        KVStore(small_config(tmp_path, faults=(line,)), "node")


def test_lines_say_what_they_say() -> None:
    assert Fault.parse("read delay 0.5 share 0.25") == Fault("read", "delay", 0.5, 0.25)
    assert Fault.parse("rename crash at 3") == Fault("rename", "crash", at=3)
    assert StoreConfig().faults == ()


def test_a_disk_begins_to_fail_when_it_is_told_to_and_is_mended(tmp_path: Path) -> None:
    files, path = FaultyFiles([]), tmp_path / "file"
    path.write_bytes(b"bytes")
    os.close(files.open(path))
    files.fail_with([Fault.parse("open eio")])
    with pytest.raises(OSError, match="Input/output"):
        files.open(path)
    files.fail_with([Fault.parse("open hang")])
    opening = threading.Thread(target=lambda: os.close(files.open(path)))
    opening.start()
    opening.join(0.05)
    assert opening.is_alive()
    files.heal()
    opening.join(30)
    assert not opening.is_alive()
    os.close(files.open(path))
