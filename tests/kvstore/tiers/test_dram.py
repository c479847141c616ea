from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.arena import Arena
from kvstore.tiers.dram import DramTier, Slot
from kvstore.types import SegmentSpec
from tests.kvstore.segments import chain_of, crcs_of, payload

TENANT = b"a tenant"


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[DramTier]:
    tier = DramTier(Arena(str(tmp_path), "node", 2**18))
    yield tier
    tier.close()


def completed(tier: DramTier, spec: SegmentSpec) -> Slot:
    extent = tier.reserve(spec.layout.nbytes, spec.tenant)
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
    tier.pin(slot)
    tier.publish(slot)
    tier.withdraw(slot)
    assert tier.find(spec.key) is None and bytes(tier.view(slot.extent)) == payload(spec)
    tier.unpin(slot)
    assert tier.used_bytes == 0 and tier.check() == []


def test_freeing_raises_the_generation(tier: DramTier) -> None:
    extent = tier.reserve(100, TENANT)
    tier.abort(extent)
    again = tier.reserve(100, TENANT)
    assert again.offset == extent.offset and again.generation == extent.generation + 1


def test_check_reports_an_extent_that_nobody_has(tier: DramTier) -> None:
    del tier._reserved[tier.reserve(5000, TENANT)]
    assert any("do not cover" in problem for problem in tier.check())


def test_check_reports_a_forgotten_slot(tier: DramTier) -> None:
    completed(tier, chain_of([1])[0])
    assert any("withdrawn and unused" in problem for problem in tier.check())


class Log:
    """What an order of eviction is told."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def hold(self, digest: bytes) -> None:
        self.held.append(digest)

    def unhold(self, digest: bytes) -> None:
        self.held.remove(digest)


def test_the_first_holder_and_the_last_of_what_is_visible_are_told(tier: DramTier) -> None:
    log, spec = Log(), chain_of([1])[0]
    tier.holds.follow(log)
    slot = completed(tier, spec)
    tier.pin(slot)
    assert log.held == [], "nobody can evict what nobody sees"
    tier.publish(slot)
    tier.borrow(slot)
    assert log.held == [spec.key.digest]
    tier.unpin(slot)
    assert log.held == [spec.key.digest]
    tier.give_back(slot)
    assert log.held == [] and tier.find(spec.key) is slot
    tier.pin(slot)
    tier.withdraw(slot)
    assert log.held == [] and tier.used_bytes == 4096
    tier.unpin(slot)
    assert tier.used_bytes == 0 and tier.check() == []


def test_every_extent_counts_for_its_tenant_until_it_is_free(tier: DramTier) -> None:
    spec = chain_of([1])[0]
    extent = tier.reserve(5000, TENANT)
    slot = completed(tier, spec)
    tier.pin(slot)
    tier.publish(slot)
    tier.withdraw(slot)
    assert (tier.shares.bytes_of(TENANT), tier.shares.bytes_of(spec.tenant)) == (8192, 4096)
    assert tier.check() == []
    tier.unpin(slot)
    tier.abort(extent)
    assert tier.shares.largest() == () and tier.check() == []
    tier.shares.take(TENANT, 1)
    assert any(TENANT.hex() in problem for problem in tier.check())
