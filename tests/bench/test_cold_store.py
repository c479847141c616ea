"""What is asked for in turn comes from the disk each time, and not out of the page cache."""

from pathlib import Path

import pytest

from kvstore.types import Layout, SegmentSpec
from tests.bench.cold_store import NUM_SETS, ColdStore, cold_store
from tests.bench.harness import CannotRun, folder_on_disk
from tests.bench.store.segments import drop_cache, fill_ssd, resident_share, specs

SMALL = Layout(num_layers=2, num_kv_heads=1, num_tokens=64, head_dim=64, dtype="bfloat16")
SIZE = 20


def _tiers(cold: ColdStore, segments: list[SegmentSpec]) -> set[str]:
    acquired = cold.client.acquire([(spec,) for spec in segments], 60)
    cold.client.release(acquired.lease_id)
    assert len(acquired.hits) == len(segments)
    return {hit.tier for hit in acquired.hits.values()}


def test_sets_in_turn_are_never_in_dram(tmp_path: Path) -> None:
    segments = specs(NUM_SETS * SIZE, SMALL)
    sets = [segments[i : i + SIZE] for i in range(0, len(segments), SIZE)]
    fill_ssd(tmp_path, segments)
    with cold_store(tmp_path / "ssd", str(tmp_path)) as cold:
        for turn in range(3 * NUM_SETS):
            cold.drop_page_cache()
            assert _tiers(cold, sets[turn % NUM_SETS]) == {"ssd"}
        assert _tiers(cold, sets[-1]) == {"dram"}


def test_pages_of_a_dropped_file_are_gone_until_it_is_read() -> None:
    with folder_on_disk() as folder:
        files = fill_ssd(folder, specs(3, SMALL))
        drop_cache(files)
        if resident_share(files) > 0:
            pytest.skip("the home folder is on a file system in memory")
        files[0].read_bytes()
        assert resident_share(files[:1]) == 1
        assert resident_share(files) == pytest.approx(1 / 3)


def test_files_in_memory_cannot_be_cold(tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("no file system in memory")
    file = memory / f"hyperrag-test-{tmp_path.name}"
    file.write_bytes(bytes(8192))
    try:
        with pytest.raises(CannotRun, match="100% of the segment files"):
            ColdStore(None, (file,)).drop_page_cache()  # type: ignore[arg-type]
    finally:
        file.unlink()
