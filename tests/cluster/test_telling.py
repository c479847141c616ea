"""Nodes that were away while passages were removed: real shards, each on a disk of its own."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import pytest

from actors import node_removals, removal_log
from actors.removal_file import RemovalFile
from actors.removal_log import Removed
from cluster import membership_keeper, telling
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.tiers.files import Files
from kvstore.types import Path
from tests.actors.visiting import somebody
from tests.cluster.nodes import eventually
from tests.cluster.shells import Shells, shells
from tests.kvstore.segments import TRUNK, chain_of, passage, store_path

REMOVED, FOLLOWS, OTHER = (
    chain_of(TRUNK, passage(1)),
    chain_of(TRUNK, passage(1), passage(2)),
    chain_of(TRUNK, passage(3)),
)


@pytest.fixture
def two(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shells]:
    """Node b has two passages, and is away."""
    monkeypatch.setattr(membership_keeper, "LOST_AFTER_S", 1e-9)
    with shells(tmp_path, "a", "b") as made:
        made.settle()
        store = made.wire.shells["b"]._store
        client = LocalStoreClient(store, str(tmp_path / "b"))
        store_path(client, FOLLOWS, OTHER)
        client.close()
        assert made.wire.shells["b"].flush(30.0)
        made.wire.cut.add("b")
        made.step()
        assert made.keeper.membership().node_ids == {"a"}
        yield made


def remove(made: Shells, name: str, *paths: Path) -> None:
    tags = [path[-1].tag for path in paths]
    made.wire.shells[name].remove_tags(tags, secrets.token_bytes(16))


def has(made: Shells, *paths: Path) -> bool:
    return bool(made.wire.shells["b"].locate([path[-1].key for path in paths]))


def known(made: Shells, name: str) -> tuple[Removed, ...]:
    kept = made.wire.shells[name].removals()
    assert kept is not None
    entries: tuple[Removed, ...] = kept.removals.entries
    return entries


@contextmanager
def engine(made: Shells, name: str) -> Iterator[LocalStoreClient]:
    """Of the node's own."""
    client = LocalStoreClient(made.wire.shells[name]._store, str(made.folder / name))
    yield client
    client.close()


def serves(made: Shells, name: str, path: Path) -> bool:
    """Whether an engine there finds all of it. Raises StoreUnavailableError."""
    with engine(made, name) as client:
        return len(client.acquire([path], 5.0, claim=False).hits) == len(path)


def come_back(made: Shells) -> None:
    """The process is the same, and was not reached meanwhile."""
    made.wire.shells["b"]._removals._followed_at -= 2 * node_removals.SILENT_S
    made.wire.cut.clear()


def restart(made: Shells, *names: str) -> None:
    made.stop(*names)
    made.wire.cut.clear()
    made.start(*names)


def test_a_node_that_was_silent_is_told_before_it_is_a_member(two: Shells) -> None:
    remove(two, "a", REMOVED)
    come_back(two)
    two.wire.losing.add("learn_removals")
    two.step()
    assert two.keeper.membership().node_ids == {"a"}
    assert two.keeper.sharers() == frozenset("ab"), "who removes something now asks it, too"
    two.wire.losing.clear()
    two.settle()
    assert not has(two, REMOVED, FOLLOWS) and has(two, OTHER)


def test_a_node_that_was_silent_serves_nothing_before_it_is_told(two: Shells) -> None:
    remove(two, "a", REMOVED)
    come_back(two)
    two.wire.losing.add("learn_removals")
    two.step()
    with pytest.raises(StoreUnavailableError, match="has not been told"):
        serves(two, "b", OTHER)
    guest = somebody("a")
    with pytest.raises(StoreUnavailableError, match="has not been told"):
        two.wire.shells["b"].fetch(guest, [FOLLOWS], 5.0, False, 0)
    two.wire.losing.clear()
    two.settle()
    assert serves(two, "b", OTHER) and not serves(two, "b", REMOVED)


def test_a_process_that_stood_still_serves_nothing_before_it_is_told(two: Shells) -> None:
    remove(two, "a", REMOVED)
    two.wire.shells["b"]._removals._ran_at -= 2 * node_removals.SILENT_S
    with pytest.raises(StoreUnavailableError, match="has not been told"):
        serves(two, "b", REMOVED)
    two.wire.cut.clear()
    two.settle()
    assert serves(two, "b", OTHER) and not serves(two, "b", REMOVED)


def test_who_was_dropped_is_told_although_it_noticed_nothing(two: Shells) -> None:
    remove(two, "a", REMOVED)
    two.wire.cut.clear()
    two.wire.losing.add("learn_removals")
    two.step()
    assert two.keeper.membership().node_ids == {"a"}
    with pytest.raises(StoreUnavailableError, match="has not been told"):
        serves(two, "b", OTHER)
    two.wire.losing.clear()
    two.settle()
    assert not has(two, REMOVED, FOLLOWS) and has(two, OTHER)


def test_a_node_that_comes_with_its_disk_serves_nothing_before_it_is_told(two: Shells) -> None:
    remove(two, "a", REMOVED)
    restart(two, "b")
    assert two.wire.shells["b"].flush(30.0), "its disk is listed"
    with pytest.raises(StoreUnavailableError, match="has not been told"):
        serves(two, "b", OTHER)
    two.settle()
    assert serves(two, "b", OTHER) and not serves(two, "b", REMOVED)


def test_a_node_that_comes_back_as_all_others_restart_waits_for_what_they_know(
    two: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(two, "a", REMOVED)
    two.stop("a", "b")
    two.wire.cut.clear()
    monkeypatch.setattr(membership_keeper, "LOST_AFTER_S", 60.0)
    two.new_keeper()
    two.start("b")
    eventually(lambda: two.wire.shells["b"].removals() is not None)
    two.step("a", "b")
    assert two.keeper.membership().node_ids == set(), "a may know of something"
    with pytest.raises(StoreUnavailableError, match="has not been told"):
        serves(two, "b", OTHER)
    two.start("a")
    two.settle()
    assert serves(two, "b", OTHER) and not serves(two, "b", REMOVED)


def test_where_all_begin_anew_nobody_waits_for_a_node_for_ever(two: Shells) -> None:
    two.stop("a", "b")
    two.wire.cut.clear()
    two.new_keeper()
    two.start("b")

    def is_alone() -> bool:
        two.step("a", "b")
        return two.keeper.membership().node_ids == {"b"}

    eventually(is_alone, 30.0)
    assert serves(two, "b", FOLLOWS)


def test_all_are_told_again_after_an_outage_of_the_directory(two: Shells) -> None:
    two.wire.cut.clear()
    two.settle()
    for shell in two.wire.shells.values():
        shell._removals._followed_at -= 2 * node_removals.SILENT_S
    two.new_keeper()
    two.step()
    two.step()
    assert two.keeper.membership().node_ids == {"a", "b"}
    assert serves(two, "b", FOLLOWS)
    remove(two, "a", REMOVED)
    assert known(two, "a")


def test_who_was_away_for_longer_drops_all_it_has_where_all_begin_anew(
    two: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_SAVED_MS", 0)
    monkeypatch.setattr(removal_log, "MAX_BYTES", 200)
    time.sleep(0.01)
    remove(two, "a", REMOVED)
    remove(two, "a", chain_of(TRUNK, passage(4)))
    two.step()  # a is told until now
    two.stop("a", "b")
    two.wire.cut.clear()
    two.new_keeper()
    two.start("a", "b")
    two.settle()
    assert two.wire.shells["b"].flush(30.0)
    assert not has(two, REMOVED, FOLLOWS, OTHER)


def test_a_node_that_comes_with_its_disk_is_told_of_what_was_removed_meanwhile(
    two: Shells,
) -> None:
    remove(two, "a", REMOVED)
    restart(two, "b")
    two.settle()
    eventually(lambda: has(two, OTHER))
    assert two.wire.shells["b"].flush(30.0), "its disk is listed"
    assert not has(two, REMOVED, FOLLOWS)


def test_those_who_know_of_a_removal_know_it_after_a_restart(two: Shells) -> None:
    remove(two, "a", REMOVED)
    two.stop("a")
    two.new_keeper()
    two.start("a")
    come_back(two)
    two.settle()
    assert not has(two, REMOVED, FOLLOWS) and has(two, OTHER)


def test_a_removal_is_on_the_disk_when_it_has_been_made(two: Shells, tmp_path: FilePath) -> None:
    (tmp_path / "a" / "ssd" / "HYPERRAG-STORE").touch(mode=0o600)  # as its first segment does
    remove(two, "a", REMOVED)
    kept = RemovalFile(tmp_path / "a" / "ssd", Files()).load()
    assert kept is not None
    assert [entry.tags for entry in kept.removals.entries] == [[REMOVED[-1].tag]]


def test_what_a_node_knew_alone_the_others_learn_from_it(two: Shells) -> None:
    remove(two, "b", REMOVED)
    come_back(two)
    two.settle()
    assert known(two, "a") == known(two, "b") != ()


def test_nobody_is_told_while_one_who_knows_of_everything_is_silent(two: Shells) -> None:
    remove(two, "a", REMOVED)
    come_back(two)
    two.wire.losing.add("removals")
    two.step()
    assert two.keeper.membership().node_ids == {"a"} and has(two, REMOVED)


def test_a_node_that_was_away_for_longer_than_others_remember_drops_all_it_has(
    two: Shells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal_log, "MAX_BYTES", 200)
    remove(two, "a", REMOVED)
    remove(two, "a", chain_of(TRUNK, passage(4)))
    assert len(known(two, "a")) == 1
    come_back(two)
    two.settle()
    assert not has(two, REMOVED, FOLLOWS, OTHER)


def test_a_node_whose_log_is_damaged_drops_all_it_has(two: Shells, tmp_path: FilePath) -> None:
    two.stop("b")
    (tmp_path / "b" / "ssd" / "REMOVALS").write_bytes(b"damaged")
    two.wire.cut.clear()
    two.start("b")
    two.settle()
    assert two.wire.shells["b"].flush(30.0)
    assert not has(two, REMOVED, FOLLOWS, OTHER)
