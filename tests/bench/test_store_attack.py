"""The attack's instruments: each shows what it is there to show."""

import time
from pathlib import Path

from tests.bench.store_attack import strangers
from tests.bench.store_attack.tiny import opened, passages, store_all
from tests.kvstore.held import HeldLock, lock_of, measured_locks


def test_a_lock_knows_how_long_it_was_held_and_for_what() -> None:
    lock = HeldLock()
    with lock:
        time.sleep(0.01)
    assert set(lock.holds) == {""}
    with lock.counting("sleeping"):
        with lock:
            time.sleep(0.05)
        with lock:
            pass
    holds = lock.holds["sleeping"]
    assert holds.count >= 2 and 0.05 <= holds.longest_s <= holds.total_s


def test_a_store_runs_on_a_measured_lock(tmp_path: Path) -> None:
    with measured_locks():
        store, client = opened(tmp_path, 64)
    with lock_of(store).counting("storing"):
        store_all(client, passages(63))
    assert lock_of(store).holds["storing"].count >= 3
    assert store.stats().dram.num_segments == 64
    client.close()
    store.close()


def test_a_stranger_s_file_that_changes_or_goes_is_seen(tmp_path: Path) -> None:
    files = [tmp_path / "folder" / name for name in ("stays", "changes", "goes")]
    for path in files:
        strangers._write(path)
    before = strangers._strangers(tmp_path)
    assert len(before) == 3
    files[1].write_bytes(b"somebody else's, changed")
    files[2].unlink()
    after = strangers._strangers(tmp_path)
    assert [p.name for p in files if after.get(str(p)) == before[str(p)]] == ["stays"]
