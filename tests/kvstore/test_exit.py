"""A process whose disk hangs can end."""

import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.segment_files import new_name
from tests.kvstore.segments import chain_of, passage, store_path
from tests.tracked import ROOT

USES_A_DISK_THAT_HANGS = """
import sys
from pathlib import Path
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers import folder as ssd
from tests.kvstore.segments import chain_of, compute, passage, small_config
folder, faults = Path(sys.argv[1]), tuple(sys.argv[2:])
ssd._START_S = 0.3
config = small_config(folder, faults=faults, read_timeout_s=0.2)
store = KVStore(config, "node")
client = LocalStoreClient(store, config.dram_dir)
compute(client, chain_of(passage(1)), chain_of(passage(2)), deadline_s=0.2)
store.flush(0.2)
print("used", flush=True)
"""


@pytest.mark.parametrize("operation", ["open", "read", "create", "rename", "unlink"])
def test_a_process_ends_though_its_disk_hangs(config: StoreConfig, operation: str) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, chain_of(passage(1)))
    assert store.flush(10)
    client.close()
    store.close()
    assert_ends(Path(config.dram_dir), operation)


@pytest.mark.parametrize("operation", ["create", "sync"])
def test_a_first_start_ends_though_its_disk_hangs(tmp_path: Path, operation: str) -> None:
    assert_ends(tmp_path, operation)


@pytest.mark.parametrize("operation", ["unlink"])
def test_a_start_after_a_crash_ends_though_its_disk_hangs(
    config: StoreConfig, operation: str
) -> None:
    KVStore(config, "node").close()
    leftover = Path(config.ssd_dir) / "tmp" / new_name(chain_of(passage(1))[0].key)
    leftover.touch()
    assert_ends(Path(config.dram_dir), operation)


def assert_ends(folder: Path, operation: str) -> None:
    command = [sys.executable, "-c", USES_A_DISK_THAT_HANGS, str(folder), f"{operation} hang"]
    done = subprocess.run(command, cwd=ROOT, timeout=30, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"used\n"
