from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.arena import Arena
from kvstore.tiers.dram import DramTier, Slot
from kvstore.types import SegmentSpec
from tests.kvstore.segments import chain_of, crcs_of, payload


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[DramTier]:
    tier = DramTier(Arena(str(tmp_path), "node", 2**18))
    yield tier
    tier.close()


def completed(tier: DramTier, spec: SegmentSpec) -> Slot:
    extent = tier.reserve(spec.layout.nbytes)
    tier.view(extent)[:] = payload(spec)
    return tier.complete(spec, extent, crcs_of(spec))


def test_nothing_is_visible_before_it_is_published(tier: DramTier) -> None:
    spec = chain_of([1])[0]
    slot = completed(tier, spec)
    assert tier.find(spec.key) is None and tier.used_bytes == 4096
    tier.publish(slot)
    assert tier.find(spec.key) is slot and tier.check() == []


def test_a_held_slot_keeps_its_bytes_when_it_is_withdrawn(tier: DramTier) -> None:
    spec = chain_of([1])[0]
    slot = completed(tier, spec)
    slot.pins += 1
    tier.publish(slot)
    tier.withdraw(slot)
    assert tier.find(spec.key) is None and bytes(tier.view(slot.extent)) == payload(spec)
    slot.pins -= 1
    tier.free_if_unused(slot)
    assert tier.used_bytes == 0 and tier.check() == []


def test_freeing_raises_the_generation(tier: DramTier) -> None:
    extent = tier.reserve(100)
    tier.abort(extent)
    again = tier.reserve(100)
    assert again.offset == extent.offset and again.generation == extent.generation + 1


def test_check_reports_an_extent_that_nobody_has(tier: DramTier) -> None:
    tier._reserved.remove(tier.reserve(5000))
    assert any("do not cover" in problem for problem in tier.check())


def test_check_reports_a_forgotten_slot(tier: DramTier) -> None:
    completed(tier, chain_of([1])[0])
    assert any("withdrawn and unused" in problem for problem in tier.check())
