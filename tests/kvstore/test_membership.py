"""Rendezvous hashing: shares follow weights, and a change moves no more than it must."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.membership import Member, Membership, Rendezvous
from kvstore.types import EVERYWHERE

PLACEMENTS = [n.to_bytes(8, "little") for n in range(1, 20_001)]
GIB = 2**30


def of(*capacities: int, copies: int = 1, epoch: int = 1) -> Membership:
    members = tuple(
        Member(f"node-{i}", f"host-{i}", capacity) for i, capacity in enumerate(capacities)
    )
    return Membership(epoch, members, copies)


def test_shares_follow_capacities_even_for_placements_in_a_row() -> None:
    owners = [owner for (owner,) in of(GIB, GIB, 2 * GIB).all_owners(PLACEMENTS)]
    shares = [owners.count(f"node-{i}") / len(owners) for i in range(3)]
    assert shares == pytest.approx([0.25, 0.25, 0.5], abs=0.01)


@given(st.integers(1, 6), st.integers(0, 5), st.integers(1, 3))
def test_who_leaves_moves_its_own_alone(num: int, leaving: int, copies: int) -> None:
    before = of(*[GIB] * (num + 1), copies=copies)
    gone = f"node-{min(leaving, num)}"
    rest = tuple(member for member in before.members if member.node_id != gone)
    after = Membership(2, rest, copies)
    placements = PLACEMENTS[:200]
    pairs = zip(before.all_owners(placements), after.all_owners(placements), strict=True)
    for old, new in pairs:
        kept = [node for node in old if node != gone]
        assert list(new[: len(kept)]) == kept, "the order of those that stay is the same"


def test_a_fourth_node_takes_a_quarter_from_all_alike() -> None:
    three, four = of(GIB, GIB, GIB), of(GIB, GIB, GIB, GIB)
    pairs = list(zip(three.all_owners(PLACEMENTS), four.all_owners(PLACEMENTS), strict=True))
    moved = [old for (old,), (new,) in pairs if old != new]
    assert all(new == "node-3" for (old,), (new,) in pairs if old != new)
    assert len(moved) / len(pairs) == pytest.approx(0.25, abs=0.01)
    assert min(moved.count(f"node-{i}") for i in range(3)) / len(moved) > 0.3


def test_copies_lie_on_different_nodes_as_far_as_there_are_any() -> None:
    assert all(
        len(set(owners)) == 2 for owners in of(GIB, GIB, GIB, copies=2).all_owners(PLACEMENTS)
    )
    assert of(GIB, copies=2).owners(PLACEMENTS[0]) == ("node-0",)
    assert of().owners(PLACEMENTS[0]) == ()


def test_a_draining_node_owns_nothing_and_is_where_its_own_was() -> None:
    before = of(GIB, GIB, GIB)
    draining = tuple(
        replace(m, state="draining" if m.node_id == "node-1" else "up") for m in before.members
    )
    after = Membership(2, draining, before=before.members)
    for placement in PLACEMENTS[:500]:
        (old,), new = before.owners(placement), after.owners(placement)
        assert "node-1" not in new
        assert after.former(placement) == (("node-1",) if old == "node-1" else ())


def test_former_owners_are_members_that_own_it_no_more() -> None:
    old, new = of(GIB, GIB), of(GIB, GIB, GIB)
    moving = Membership(2, new.members, before=old.members)
    for placement in PLACEMENTS[:500]:
        was, now = old.owners(placement), new.owners(placement)
        assert moving.former(placement) == (was if was != now else ())
        assert new.former(placement) == (), "nothing is being moved"
    lost = Membership(3, new.members[:1], before=new.members)
    assert all(lost.former(p) == () for p in PLACEMENTS[:50]), "a node that is gone has nothing"


def test_many_at_once_are_ranked_as_each_alone() -> None:
    membership = of(GIB, 3 * GIB, 2 * GIB, copies=2)
    many = membership.all_owners(PLACEMENTS[:64])
    assert many == [membership.owners(placement) for placement in PLACEMENTS[:64]]
    ranked = Rendezvous({"a": 1, "b": 1}).rank(np.arange(150_000, dtype=np.uint64), 1)
    assert ranked.shape == (150_000, 1) and 0.49 < ranked.mean() < 0.51


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        Rendezvous({"a": 0})


def test_everybody_owns_what_every_chain_begins_with() -> None:
    membership = of(GIB, GIB, GIB)
    assert membership.owners(EVERYWHERE) == ("node-0", "node-1", "node-2")
    assert len(membership.all_owners([PLACEMENTS[0], EVERYWHERE])[1]) == 3


def test_a_node_that_restarts_under_its_name_owns_what_it_had() -> None:
    before = of(GIB, GIB, GIB)
    again = tuple(replace(m, node_id=f"new-{m.node_id}") for m in before.members)
    after = Membership(2, again)
    pairs = zip(before.all_owners(PLACEMENTS), after.all_owners(PLACEMENTS), strict=True)
    assert all(new == (f"new-{old}",) for (old,), new in pairs)
