"""Exceptions that nobody expected, at every step of every background thread."""

import logging
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from kvstore import scrub
from kvstore.config import StoreConfig
from kvstore.errors import KVStoreError
from kvstore.local import LocalStoreClient
from kvstore.pending import PendingWindow
from kvstore.singleflight import Claims
from kvstore.store import KVStore
from kvstore.tiers.files import Files
from kvstore.tiers.ledger import Ledger
from tests.bench.harness import Options
from tests.kvstore.segments import TRUNK, chain_of, passage, small_config, store_path
from tests.kvstore.waiting import eventually

ERRORS: tuple[type[Exception], ...] = (MemoryError, struct.error, KeyError, AssertionError)
_PATHS = [chain_of(TRUNK, passage(n)) for n in range(24)]
_PATIENCE_S = 60.0
_SOON_S = 15.0
_OTHERS: tuple[tuple[Any, str], ...] = (
    (scrub, "damage_of"),
    (Claims, "expire"),
    (PendingWindow, "upcoming"),
    (Ledger, "begin"),
    (Ledger, "end"),
    (Ledger, "detach"),
)


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    files = [(Files, name) for name, it in vars(Files).items() if _is_step(name, it)]
    steps = [*files, *_OTHERS]
    errors = ERRORS[:2] if options.quick else ERRORS
    dead = stuck = struck = 0
    rows: list[dict[str, object]] = []
    logging.disable(logging.ERROR)  # a thread says what it survived
    for owner, name in steps:
        for error in errors:
            with TemporaryDirectory() as folder:
                gone, works, calls = _disturbed(small_config(Path(folder), **_SETTINGS), owner,
                                                name, error)  # fmt: skip
            dead, stuck, struck = dead + len(gone), stuck + (not works), struck + calls
            if gone or not works:
                what = f"{error.__name__} in {name}: dead {', '.join(gone) or 'none'}"
                rows.append({"what": what, "answer": "works" if works else "stuck"})
    logging.disable(logging.NOTSET)
    rows.append({"what": "exceptions in background threads", "struck": struck, "stuck": stuck})
    return {"threads_dead": dead + stuck}, rows


_SETTINGS: dict[str, float | str] = {
    "dram_bytes": 2**17, "ssd_bytes": 2**18, "reap_interval_s": 0.01, "scrub_bytes_per_s": 1e9,
    "read_timeout_s": 0.2,
}  # fmt: skip


def _is_step(name: str, it: object) -> bool:
    return callable(it) and not name.startswith("_")


def _disturbed(
    config: StoreConfig, owner: Any, name: str, error: type[Exception]
) -> tuple[set[str], bool, int]:
    """The threads that are gone, whether the store still works, how often the error struck."""
    before = _threads()
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, *_PATHS[:8])
    store.flush(_PATIENCE_S)
    ours = _threads() - before
    with _failing(owner, name, error) as calls:
        _use(store, client)
        eventually(lambda: calls[0] > 2, 0.5)
    gone = {thread.name for thread in ours if not thread.is_alive()}
    works = _works(store, client)
    client.close()
    store.close(5.0)
    return gone, works, calls[0]


def _use(store: KVStore, client: LocalStoreClient) -> None:
    """Evict, write, read and read ahead, whatever comes of it."""
    for n in range(3):
        with suppress(KVStoreError, *ERRORS):
            client.announce(f"request-{n}", _PATHS[: 4 * n + 1], _PATIENCE_S)
        for path in _PATHS[8 * n : 8 * n + 8]:
            with suppress(KVStoreError, *ERRORS):
                store_path(client, path)
        store.flush(0.1)


def _works(store: KVStore, client: LocalStoreClient) -> bool:
    """Something new is stored and gets to the disk, nothing is held for ever, the books balance."""
    store_path(client, chain_of(passage(99)))
    if not store.flush(_SOON_S):
        return False
    return eventually(lambda: store.stats().leases == 0 and _balances(store), _SOON_S)


def _balances(store: KVStore) -> bool:
    """In memory; what a failure left on the disk is named, and waits for `repair`."""
    return not [p for p in store.check().problems if not p.startswith("ssd:")]


@contextmanager
def _failing(owner: Any, name: str, error: type[Exception]) -> Iterator[list[int]]:
    """Of the calls by background threads every second one raises; how many did."""
    right: Callable[..., Any] = getattr(owner, name)
    calls, turns = [0], [0]

    def call(*args: Any, **options: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            turns[0] += 1
            if turns[0] % 2:
                calls[0] += 1
                raise error(f"on purpose, in {name}")
        return right(*args, **options)

    with mock.patch.object(owner, name, call):
        yield calls


def _threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("kvstore")}
