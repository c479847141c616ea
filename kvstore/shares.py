"""What each tenant takes of one tier, and whose segments go first when it is full."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from heapq import nlargest

IDLE_S = 600.0
"""A tenant that used nothing of the tier for so long has no share of it until it comes back."""
_MAX_ACTIVE = 4096
_MAX_SHOWN = 16

Tenants = Callable[[bytes], bool]
"""Whether a tenant's segments are looked at."""


def everyone(tenant: bytes) -> bool:
    return True


class Shares:
    """A soft share: what nobody else needs may be borrowed, and is given back first.

    Each active tenant is guaranteed `share` of the tier, and where there are many an equal part. A
    tenant beyond that, or idle, is exposed: others make room at its cost before they touch each
    other, and it makes its own room there alone. One tenant alone may so use all of the tier, and
    what one floods it with never takes what another has within its share.

    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(
        self,
        share: float,
        capacity_bytes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._capacity_bytes = capacity_bytes
        self._clock = clock
        self._bytes: Counter[bytes] = Counter()
        self._active: OrderedDict[bytes, float] = OrderedDict()  # when last, longest ago first
        self.num_changes = 0
        """How often tenants became active, or idle."""

    @property
    def active(self) -> Collection[bytes]:
        """The tenants that are, as of the last look at what is guaranteed."""
        return self._active.keys()

    @property
    def guaranteed_bytes(self) -> int:
        """What an active tenant may have without being exposed."""
        self._expire()
        return int(self._capacity_bytes() * min(self._share, 1 / max(1, len(self._active))))

    def bytes_of(self, tenant: bytes) -> int:
        return self._bytes[tenant]

    def take(self, tenant: bytes, nbytes: int) -> None:
        self._bytes[tenant] += nbytes

    def give_back(self, tenant: bytes, nbytes: int) -> None:
        self._bytes[tenant] -= nbytes
        if not self._bytes[tenant]:
            del self._bytes[tenant]

    def use(self, tenant: bytes) -> None:
        """The tenant is active."""
        self.num_changes += tenant not in self._active
        self._active[tenant] = self._clock()
        self._active.move_to_end(tenant)
        if len(self._active) > _MAX_ACTIVE:
            self._active.popitem(last=False)
            self.num_changes += 1

    def turns(self, tenant: bytes | None = None, nbytes: int = 0) -> list[Tenants]:
        """Whose segments may go to make room for `nbytes` of a tenant: those of the first turn, and
        only when they do not suffice those of the next. None: room for nobody."""
        if tenant is not None:
            self.use(tenant)
        if self._bytes.keys() <= {tenant}:
            return [everyone]
        guaranteed = self.guaranteed_bytes

        def exposed(other: bytes) -> bool:
            return self._is_exposed(other, guaranteed, nbytes if other == tenant else 0)

        return [exposed] if tenant is not None and exposed(tenant) else [exposed, everyone]

    def largest(self) -> tuple[tuple[str, int], ...]:
        """The tenants that take most, by the hex digits of their digests, with their bytes."""
        found = nlargest(_MAX_SHOWN, self._bytes.items(), key=lambda item: item[1])
        return tuple((tenant.hex(), nbytes) for tenant, nbytes in found)

    def counted(self) -> Counter[bytes]:
        """A copy: bytes by tenant."""
        return Counter(self._bytes)

    def check(self, name: str, taken: Iterable[tuple[bytes, int]]) -> list[str]:
        """Against what each segment, or extent, takes of its tenant's share."""
        return miscounted(name, self._bytes, taken)

    def _is_exposed(self, tenant: bytes, guaranteed: int, more: int) -> bool:
        return tenant not in self._active or self._bytes[tenant] + more > guaranteed

    def _expire(self) -> None:
        oldest = self._clock() - IDLE_S
        while self._active and next(iter(self._active.values())) < oldest:
            self._active.popitem(last=False)
            self.num_changes += 1


def miscounted(name: str, counted: Counter[bytes], taken: Iterable[tuple[bytes, int]]) -> list[str]:
    """Where the bytes that are counted for each tenant are not what is taken in sum."""
    total: Counter[bytes] = Counter()
    for tenant, nbytes in taken:
        total[tenant] += nbytes
    wrong = [t for t in total.keys() | counted.keys() if total[t] != counted[t]]
    return [
        f"{name}: tenant {t.hex()} takes {total[t]} bytes, counted {counted[t]}"
        for t in sorted(wrong)
    ]
