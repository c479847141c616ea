"""The machine can fail: what is broken on purpose is found, and called by its name."""

import logging
from collections.abc import Iterator

import pytest

from kvstore import commits
from kvstore.families import Family
from kvstore.promises import Promises
from kvstore.remover import Remover
from kvstore.tiers.dram import DramTier, Slot
from tests.kvstore.machine.driver import LIFE_STEPS, live
from tests.kvstore.machine.model import Kind

_LIVES = 40


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def found() -> Kind | None:
    """Of the first failure."""
    for seed in range(_LIVES):
        for failure in live(seed, LIFE_STEPS).failures:
            return failure.kind
    raise AssertionError(f"{_LIVES} worlds of {LIFE_STEPS} steps show nothing")


def test_a_damaged_segment_that_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "damage_of", lambda books, slot: None)
    assert found() == "wrong bytes"


def test_pinned_memory_that_is_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a pin held nothing."""
    monkeypatch.setattr(Slot, "held", property(lambda slot: slot.borrows > 0))
    monkeypatch.setattr(DramTier, "pin", lambda _, slot: setattr(slot, "pins", slot.pins + 1))
    monkeypatch.setattr(DramTier, "unpin", lambda _, slot: setattr(slot, "pins", slot.pins - 1))
    assert found() in ("wrong bytes", "lost")


def test_a_removal_that_a_restart_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(remover: Remover, version: int, family: Family, num_hidden: int) -> bool:
        remover.level.tombstones.end(version)
        remover.level.tombstones.lift(version)
        return False

    monkeypatch.setattr(Remover, "end", end)
    assert found() in ("found again", "unbalanced")


def test_a_tenant_that_holds_what_others_were_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Promises, "may_hold", lambda promises, tenant, nbytes: True)
    assert found() == "unfair"
