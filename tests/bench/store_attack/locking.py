"""How long anything holds the metadata lock, with as many entries as a large node has.

The figure is the longest hold in processor time of the thread that held it, so that other processes
of the machine do not count; a row has the time by the clock as well.
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.garbage import freeze_survivors, join_freed_blocks
from kvstore.store import KVStore
from kvstore.types import SegmentKey
from tests.bench.harness import Options
from tests.bench.store_attack.tiny import MEMORY, TRUNK, opened, passages, store_all
from tests.kvstore.held import HeldLock, lock_of, measured_locks

NUM_ENTRIES = 300_000
_ON_DISK = 20_000
_REMOVED = 30_000


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    freeze_survivors()  # as a shard's process does
    join_freed_blocks()
    paths = passages(NUM_ENTRIES - 1)
    keys = [path[-1].key for path in paths]
    with TemporaryDirectory(dir=MEMORY) as folder:
        with measured_locks():
            store, client = opened(
                Path(folder), NUM_ENTRIES, ssd_dir=f"{folder}/ssd", ssd_bytes=2**31,
                ssd_admission="second_use", write_queue=NUM_ENTRIES,
            )  # fmt: skip
        store_all(client, paths)
        store_all(client, paths[: 2_000 if options.quick else _ON_DISK])
        store.flush(300)
        assert store.stats().dram.num_segments == NUM_ENTRIES
        lock = lock_of(store)
        _run(store, keys, [path[-1].tag for path in paths], lock)
        held = {name: holds for name, holds in lock.holds.items() if name}
        client.close()
        store.close()
    rows: list[dict[str, object]] = [
        {
            "what": f"lock held by {name}",
            "holds": holds.count,
            "by": holds.longest_by,
            "longest_ms": round(holds.longest_s * 1e3, 2),
            "longest_cpu_ms": round(holds.longest_cpu_s * 1e3, 2),
            "together_ms": round(holds.total_s * 1e3, 1),
        }
        for name, holds in held.items()
    ]
    longest_s = max(holds.longest_cpu_s for holds in held.values())
    return {"lock_held_ms_max": round(longest_s * 1e3, 2)}, rows


def _run(store: KVStore, keys: list[SegmentKey], tags: list[bytes], lock: HeldLock) -> None:
    """Half of the segments change their owner, then all of them."""
    half = {key.placement for key in keys[: len(keys) // 2]}

    def rebalance(is_own: Callable[[SegmentKey], bool]) -> None:
        store.own(lambda keys: [is_own(key) for key in keys])
        store.let_go([spec.key for spec in store.holdings() if not is_own(spec.key)])

    operations: dict[str, Callable[[], object]] = {
        "check": store.check,
        "remove_tags": lambda: store.remove_tags(tags[-_REMOVED:]),
        "rebalance": lambda: rebalance(lambda key: key.placement in half),
        "let_go of all": lambda: rebalance(lambda key: key == TRUNK[0].key),
        "own all": lambda: store.own(lambda keys: [True] * len(keys)),
        "remove_tags of all": lambda: store.remove_tags(tags),
    }
    for name, operation in operations.items():
        with lock.counting(name):
            operation()
