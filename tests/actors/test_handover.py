"""Which segments go where when the membership changes, and which may then be let go of."""

from actors.handover import MAX_REFUSALS, Handover
from kvstore.membership import Member, Membership
from kvstore.types import EVERYWHERE, SegmentSpec
from tests.kvstore.segments import TRUNK, chain_of, passage

SPECS = list({s.key: s for n in range(40) for s in chain_of(TRUNK, passage(n))}.values())
NBYTES = SPECS[-1].layout.nbytes


def membership(*nodes: str, before: tuple[str, ...] = (), copies: int = 1) -> Membership:
    members = tuple(Member(node, f"{node}-name", 100) for node in nodes)
    return Membership(2, members, copies, tuple(Member(n, f"{n}-name", 100) for n in before))


def owned_by(node: str, of: Membership) -> list[SegmentSpec]:
    return [s for s in SPECS if of.owners(s.key.placement)[0] == node and not is_shared(s)]


def is_shared(spec: SegmentSpec) -> bool:
    return spec.key.placement == EVERYWHERE


def test_only_what_every_owner_has_confirmed_is_let_go() -> None:
    now = membership("a", "b", "c", copies=2)
    handover = Handover("a", now, SPECS)
    foreign = {s.key for s in SPECS if "a" not in now.owners(s.key.placement)}
    assert foreign and handover.num_waiting() == {"b-name": len(foreign), "c-name": len(foreign)}
    assert handover.take_confirmed() == []
    some = sorted(foreign)[:3]
    handover.confirm("b", foreign)
    handover.confirm("b", foreign)
    assert handover.take_confirmed() == [], "the other owner has said nothing"
    handover.confirm("c", some)
    assert set(handover.take_confirmed()) == set(some)
    assert handover.take_confirmed() == [], "once"
    assert not handover.done and handover.num_waiting() == {"c-name": len(foreign) - 3}
    handover.confirm("c", foreign)
    assert handover.done and set(handover.take_confirmed()) == foreign - set(some)


def test_nothing_is_let_go_while_the_membership_names_a_before() -> None:
    now = membership("a", "b", before=("a",))
    handover = Handover("a", now, SPECS)
    moved = owned_by("b", now)
    assert sum(len(batch.specs) for batch in handover.batches(1, 1)) == len(moved) + 1
    for batch in handover.batches(10 * NBYTES, 1000):
        handover.confirm("b", [spec.key for spec in batch.specs])
    assert handover.done and handover.take_confirmed() == []


def test_where_no_node_owns_anything_nothing_is_let_go() -> None:
    draining = Member("a", "a", 100, "draining")
    handover = Handover("a", Membership(2, (draining,)), SPECS)
    assert handover.done and handover.take_confirmed() == []


def test_what_a_node_refuses_time_after_time_is_unplaced_and_stays() -> None:
    now = membership("a", "b")
    handover = Handover("a", now, SPECS)
    large, *others = [spec.key for spec in owned_by("b", now)]
    handover.confirm("b", others)
    for _ in range(MAX_REFUSALS - 1):
        handover.refuse("b", [large])
    assert not handover.done and not handover.num_unplaced
    handover.refuse("b", [large])
    assert handover.done and handover.num_unplaced == 1
    assert set(handover.take_confirmed()) == set(others)


def test_batches_are_bounded_by_bytes_and_by_number() -> None:
    handover = Handover("a", membership("b"), SPECS)
    batches = handover.batches(4 * NBYTES, 3)
    assert {len(batch.specs) for batch in batches[:-1]} == {3}
    assert [len(batch.specs) for batch in handover.batches(1, 100)] == [1] * len(SPECS)
    assert [s for batch in batches for s in batch.specs] == SPECS, "in the order of what is there"
