"""The watch of a stress run sees what goes over a bound."""

from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import chain_of, passage, store_path
from tests.kvstore.stress.bounds import Bounds, bytes_at_once


def test_a_store_within_its_bounds_violates_none(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    store_path(client, chain_of(passage(1)))
    assert store.flush(5)
    bounds = Bounds(store, config)
    bounds.sample()
    assert bounds.violations == [] and bounds.samples == 1


@pytest.mark.parametrize(
    ("changes", "what"), [({"dram_bytes": 2**19}, "arena"), ({"ssd_bytes": 2**12}, "SSD folder")]
)
def test_a_store_over_a_bound_is_seen(
    store: KVStore,
    client: LocalStoreClient,
    config: StoreConfig,
    changes: dict[str, int],
    what: str,
) -> None:
    store_path(client, chain_of(passage(1)))
    assert store.flush(5)
    bounds = Bounds(store, replace(config, **changes))  # type: ignore[arg-type]
    bounds.sample()
    (line,) = bounds.violations
    assert what in line and str(next(iter(changes.values()))) in line


def test_segment_files_of_every_level_count(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x.segment", "a/y.segment", "a/b/z.segment", "HYPERRAG-STORE"):
        (tmp_path / name).write_bytes(bytes(10))
    assert bytes_at_once(str(tmp_path)) == 30
