import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.arena import GRANULE, Arena, ArenaMap
from kvstore.arrival import ALL_LAYERS
from kvstore.errors import StoreConfigError, StoreUnavailableError
from kvstore.types import ArenaRef, Extent


def test_a_client_sees_what_the_owner_writes_without_a_copy(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    mapped, extent = ArenaMap(arena.ref), arena.extent(3, 10)
    view = mapped.view(extent)
    arena.view(extent)[:] = b"0123456789"
    assert bytes(view) == bytes(mapped.writable(extent)) == b"0123456789"
    arena.close()
    assert bytes(view) == b"0123456789"


def test_writes_through_a_reading_view_stay_with_the_reader(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    mapped, extent = ArenaMap(arena.ref), arena.extent(0, 4)
    mapped.view(extent)[:] = b"oops"
    assert bytes(arena.view(extent)) == b"\0\0\0\0"
    mapped.writable(extent)[:] = b"done"
    assert bytes(arena.view(extent)) == b"done"
    arena.close()


def test_reuse_of_an_extent_is_seen_in_another_map(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    mapped, extent = ArenaMap(arena.ref), arena.extent(7, GRANULE)
    assert mapped.unchanged(extent)
    arena.retire(extent)
    assert not mapped.unchanged(extent)
    assert mapped.unchanged(arena.extent(7, GRANULE))
    arena.close()


def test_layers_are_seen_to_arrive_in_another_map(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    mapped, extent, other = ArenaMap(arena.ref), arena.extent(7, GRANULE), arena.extent(8, GRANULE)
    assert mapped.num_arrived(extent) == ALL_LAYERS, "what nobody reads is whole"
    arrival = arena.arrival(extent)
    seen = [mapped.num_arrived(extent)]
    for num_layers in (1, 2):
        arrival.raise_to(num_layers)
        seen.append(mapped.num_arrived(extent))
    assert seen == [0, 1, 2] and not arena.is_complete(extent)
    arrival.hang()
    assert mapped.num_arrived(extent) == -1
    arrival.complete()
    assert mapped.num_arrived(extent) == mapped.num_arrived(other) == ALL_LAYERS
    assert arena.is_complete(extent)
    arena.close()
    arrival.raise_to(3)
    assert mapped.num_arrived(extent) == 3, "a thread that comes back late breaks nothing"


def test_layers_of_a_freed_extent_never_arrive(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    mapped, old = ArenaMap(arena.ref), arena.extent(7, GRANULE)
    arena.arrival(old).raise_to(2)
    arena.retire(old)
    new = arena.extent(7, GRANULE)
    assert mapped.num_arrived(old) == -1 and mapped.num_arrived(new) == ALL_LAYERS
    arena.arrival(new).raise_to(5)
    assert mapped.num_arrived(old) == -1 and mapped.num_arrived(new) == 5
    arena.close()


def test_a_map_tells_whether_its_owner_lives(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    mapped = ArenaMap(arena.ref)
    assert mapped.is_owned()
    arena.close()
    assert not mapped.is_owned()
    code = (
        "import os, sys; from kvstore.arena import Arena;"
        "ref = Arena(sys.argv[1], 'node', 2**20).ref; print(ref.incarnation, flush=True);"
        "sys.stdin.read(); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        incarnation = owner.stdout.readline().strip()
        path = next(tmp_path.glob("*node-*"))
        mapped = ArenaMap(ArenaRef(str(path), 2**20, incarnation))
        assert mapped.is_owned()
        owner.kill()
    assert not mapped.is_owned() and path.exists()


def test_extents_do_not_reach_into_header_or_tables(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 4 * 2**20)
    first, last = arena.extent(0, GRANULE), arena.extent(arena.num_granules - 1, GRANULE)
    assert first.offset == arena.data_offset >= GRANULE + 12 * arena.ref.nbytes // GRANULE
    assert last.offset + last.nbytes == arena.ref.nbytes == os.stat(arena.ref.path).st_size
    arena.close()


def test_the_file_is_private_and_goes_with_the_owner(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    assert os.stat(arena.ref.path).st_mode & 0o777 == 0o600
    arena.close()
    arena.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_dead_owners_are_unlinked_and_of_living_ones_kept(tmp_path: Path) -> None:
    code = (
        "import os, sys; from kvstore.arena import Arena;"
        "Arena(sys.argv[1], 'node', 2**20); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    living = Arena(str(tmp_path), "other", 2**20)
    second = Arena(str(tmp_path), "node", 2**20)
    assert {p.name for p in tmp_path.iterdir()} == {
        os.path.basename(a.ref.path) for a in (living, second)
    }
    living.close()
    second.close()


def test_no_room_names_the_setting_the_folder_and_the_remedy(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))  # a file system that is full
    try:
        with pytest.raises(StoreConfigError) as caught:
            Arena(str(tmp_path), "node", 2**24)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    for part in ("store.dram_bytes is 16777216", str(tmp_path), "free", "lower"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nbytes", [1, 4096, 8192, 12288])
def test_an_arena_too_small_for_any_segment_is_refused(tmp_path: Path, nbytes: int) -> None:
    with pytest.raises(StoreConfigError, match="too small"):
        Arena(str(tmp_path), "node", nbytes)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreConfigError, match="store.dram_dir"):
        Arena(str(tmp_path / "none"), "node", 2**20)


def test_a_node_name_cannot_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="node is"):
        Arena(str(tmp_path), "../x", 2**20)


def test_another_incarnation_is_not_mapped(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    with pytest.raises(StoreUnavailableError, match="is not incarnation"):
        ArenaMap(ArenaRef(arena.ref.path, arena.ref.nbytes, "0" * 16))
    arena.close()
    with pytest.raises(StoreUnavailableError, match="cannot be mapped"):
        ArenaMap(arena.ref)


def test_an_error_in_a_cycle_does_not_keep_the_memory(tmp_path: Path) -> None:
    """A library kept one, with its frames, and the view that they were to write."""
    arena = Arena(str(tmp_path), "node", 64 * GRANULE)

    def write(_: memoryview) -> list[object]:
        try:
            raise OSError
        except OSError as error:
            kept: list[object] = [error]
            kept.append(kept)
            return kept

    def written() -> None:
        write(arena.view(arena.extent(0, GRANULE)))

    gc.disable()
    try:
        written()
        gc.freeze()  # as what survives a full collection is
        arena.close()
        assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    finally:
        gc.enable()
        gc.unfreeze()


def test_views_outlive_the_map(tmp_path: Path) -> None:
    arena = Arena(str(tmp_path), "node", 2**20)
    arena.view(Extent(arena.data_offset, 3, 0))[:] = b"abc"
    view = ArenaMap(arena.ref).view(Extent(arena.data_offset, 3, 0))
    arena.close()
    assert view.tobytes() == b"abc"
