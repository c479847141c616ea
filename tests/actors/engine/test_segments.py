"""What a request is told of where its KV was found."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from actors.engine.config import DeviceTierConfig
from actors.engine.device.retained import RetainedTier
from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.kv import path_of, use
from tests.kvstore.segments import small_config


@contextmanager
def opened(config: StoreConfig) -> Iterator[Segments]:
    """Over a store that is closed, with all written, at the end."""
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    yield Segments(client, RetainedTier(DeviceTierConfig(0)))
    client.close()
    assert store.flush(10)
    store.close()


def places(report: CacheReport) -> tuple[int, int, int, int]:
    return report.dram_hits, report.ssd_hits, report.remote_hits, report.computed


def test_hits_are_counted_by_the_tier_that_had_them(tmp_path: Path) -> None:
    config = replace(small_config(tmp_path), remote=f"file://{tmp_path}/remote")
    path = path_of(1, 2)
    with opened(config) as segments:
        assert places(use(segments, path)) == (0, 0, 0, 3)
        assert places(use(segments, path)) == (3, 0, 0, 0)
    with opened(config) as segments:
        assert places(use(segments, path)) == (0, 3, 0, 0)
    with opened(replace(config, ssd_dir="")) as segments:
        report = use(segments, path)
        assert places(report) == (0, 0, 3, 0) and report.hits == 3
        assert report.tokens_reused == sum(spec.layout.num_tokens for spec in path)
