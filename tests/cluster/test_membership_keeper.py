"""What becomes a membership, of real shards in this process."""

from collections.abc import Iterator
from pathlib import Path as FilePath

import pytest

from tests.cluster.shells import Shells, shells


@pytest.fixture
def two(tmp_path: FilePath) -> Iterator[Shells]:
    with shells(tmp_path, "a", "b") as made:
        yield made


def epochs(made: Shells) -> set[int]:
    return {shell.membership().epoch for shell in made.wire.shells.values()}


def test_a_cluster_that_begins_anew_is_later_than_any_that_a_client_may_know(two: Shells) -> None:
    two.settle()
    before = two.keeper.membership()
    two.stop("a", "b")
    two.new_keeper()
    two.start("a", "b")
    two.settle()
    assert two.keeper.membership().node_ids == {"a", "b"}
    assert two.keeper.membership().epoch > before.epoch


def test_whoever_knows_of_a_later_epoch_gets_one_that_is_later_still(two: Shells) -> None:
    """As when the clock of the former directory's node was ahead."""
    two.settle()
    ahead = two.keeper.membership().epoch + 10**9
    two.keeper.membership(ahead)
    two.step()
    two.step()
    assert two.keeper.membership().epoch > ahead
    assert two.keeper.membership().node_ids == {"a", "b"}
    assert epochs(two) == {two.keeper.membership().epoch}


def test_a_directory_that_heard_nobody_at_first_goes_on_from_what_they_followed(
    two: Shells,
) -> None:
    two.settle()
    two.keeper.drain("b")
    two.step()
    two.step()
    known = two.keeper.membership()
    two.wire.cut |= {"a", "b"}
    two.new_keeper().step({"a", "b"})
    assert two.keeper.sharers() is None, "it does not know who has anything"
    two.wire.cut.clear()
    two.step()
    assert two.keeper.membership() == known
    two.start("c")
    two.settle()
    two.step()
    assert two.keeper.membership().node_ids == {"a", "b", "c"}
    assert epochs(two) == {two.keeper.membership().epoch}
    assert {m.name for m in two.keeper.membership().members if m.state == "draining"} == {"b"}
