"""What tenants hold, before and after a call: nothing is lent that others were promised."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from kvstore.promises import NOBODY
from tests.kvstore.machine.model import require
from tests.kvstore.machine.world import World


@dataclass(frozen=True, slots=True)
class Holdings:
    held: Counter[bytes]
    share: int
    active: frozenset[bytes]

    def promised(self, tenants: Collection[bytes]) -> int:
        """What these do not hold yet of their shares."""
        return sum(max(0, self.share - self.held[tenant]) for tenant in tenants)


def holdings_of(world: World) -> Holdings:
    books = world.store._books
    with books.lock:
        shares = books.dram.shares
        share = shares.guaranteed_bytes
        return Holdings(books.dram.promises.counted(), share, frozenset(shares.active))


def require_fair(world: World, before: Holdings) -> None:
    """Somebody has got more since then. The prefix is held by nobody, whoever needs it; and a
    tenant that was not there was promised nothing."""
    after = holdings_of(world)
    promised = after.promised(after.active & before.active)
    capacity = world.store._books.dram.capacity_bytes
    lent = after.held.total() - max(0, after.held[NOBODY] - before.held[NOBODY])
    for tenant in after.active:
        if after.held[tenant] > max(after.share, before.held[tenant]):
            room = capacity - lent
            text = f"{tenant.hex()} got {after.held[tenant]} bytes; {promised} are promised"
            require(promised <= room, "unfair", f"{text}, and room is for {room}")
