"""Nodes that were away while passages were removed: real shards, each on a disk of its own."""

import secrets
from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from actors import node_removals, removal_log
from actors.removal_file import RemovalFile
from cluster import membership_keeper
from kvstore.local import LocalStoreClient
from kvstore.tiers.files import Files
from kvstore.types import Path
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
    known = [shell.removals().entries for shell in two.wire.shells.values()]
    assert known[0] == known[1] and known[0]


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
    assert len(two.wire.shells["a"].removals().entries) == 1
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
