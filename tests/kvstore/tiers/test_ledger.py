from collections.abc import Iterator

from kvstore.tiers.base import Entry
from kvstore.tiers.ledger import Ledger
from kvstore.tiers.segment_object import Stored
from tests.kvstore.segments import TRUNK, chain_of, passage

SPECS = chain_of(TRUNK, passage(1), passage(2), passage(3))
OBJECTS = [Stored(Entry(spec, 100, 0.0), str(spec.key)) for spec in SPECS]


class Interrupted(dict[str, int]):
    """A listing: while it is looked through, something happens."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__({stored.name: 100 for stored in OBJECTS})
        self._ledger = ledger

    def items(self) -> Iterator[tuple[str, int]]:  # type: ignore[override]
        assert not self._ledger._lock.locked(), "others have it meanwhile"
        assert self._ledger.adopt(OBJECTS[0], recovered=False)
        assert self._ledger.adopt(OBJECTS[1], recovered=False)
        self._ledger.detach(OBJECTS[1].entry.key)
        self._ledger.left(OBJECTS[1])
        return iter(list(super().items()))


def test_what_is_adopted_while_a_listing_is_counted_counts_once() -> None:
    ledger = Ledger(exclusive=True)
    ledger.listed(Interrupted(ledger))
    assert ledger.used == 300 and ledger.imbalance() == ""
    assert ledger.is_stored(OBJECTS[0].name) and not ledger.is_unread(OBJECTS[0].name)
    assert sorted(ledger.unread()) == sorted(stored.name for stored in OBJECTS[2:])


def test_what_departs_is_told_latest_first() -> None:
    ledger = Ledger(exclusive=True)
    for stored in OBJECTS:
        ledger.adopt(stored, recovered=False)
    for stored in OBJECTS:
        ledger.detach(stored.entry.key)
    assert ledger.leaving() == OBJECTS[::-1] and not ledger.is_settled
    assert ledger.leaving(after=2) == OBJECTS[:1:-1] and ledger.num_departures == 4
    for stored in OBJECTS:
        ledger.left(stored)
    assert ledger.is_settled and ledger.used == 0


def test_what_is_condemned_twice_counts_once() -> None:
    ledger = Ledger(exclusive=False)
    ledger.condemn(OBJECTS[0])
    ledger.condemn(Stored(Entry(SPECS[0], 100, 5.0), OBJECTS[0].name))
    assert ledger.leaving() == OBJECTS[:1] and ledger.used == 100
