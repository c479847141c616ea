"""What is true of the store whatever it decides: which segments may be found, who holds what.

The model knows nothing of room, order or time: a segment may be evicted at any moment. It knows
that a segment cannot be found before it was committed, nor after its passage was removed, and that
what a lease holds keeps its bytes.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from kvstore.types import Acquired, Extent, Path, SegmentKey, SegmentSpec, Ticket, TicketId
from tests.kvstore.machine.universe import NAMES, family

Kind = Literal["wrong bytes", "unbalanced", "found again", "lost", "contract", "stuck", "unfair"]
"""Of a violation. `found again`: a removed passage, or one that nobody stored."""


class Violation(AssertionError):
    """The store did what it must never do."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


def require(condition: object, kind: Kind, text: str) -> None:
    if not condition:
        raise Violation(kind, text)


@dataclass(slots=True)
class Claim:
    """A ticket with an extent that its holder has neither committed nor given back."""

    ticket: Ticket
    extent: Extent
    doomed: bool = False
    """Its passage was removed since: the result must not be found."""
    written: bool = False
    """The whole of it."""


@dataclass(slots=True, eq=False)
class Held:
    """A lease, and what its holder may rely on."""

    acquired: Acquired
    pinned: dict[SegmentKey, Extent] = field(default_factory=dict)
    """Hits that were whole, and what was committed: their bytes stand until the lease ends."""
    arriving: dict[SegmentKey, Extent] = field(default_factory=dict)
    """Hits on their way: each layer stands once it is there, while the extent is unchanged."""
    claims: dict[TicketId, Claim] = field(default_factory=dict)


@dataclass(slots=True)
class Model:
    may_be_found: set[SegmentKey] = field(default_factory=set)
    """Committed, and not removed since."""
    may_return: set[SegmentKey] = field(default_factory=set)
    """Removed by a call that failed: out of sight until the store starts again."""
    unsound: int = 0
    """Commits of bytes that were not what their checksums said, since the store's start."""

    def committed(self, claim: Claim) -> None:
        if not claim.doomed:
            self.may_be_found.add(claim.ticket.spec.key)

    def removed(self, tags: Collection[bytes], held: Collection[Held], is_promised: bool) -> None:
        """What is not promised for good may return when the store starts again."""
        gone = family(tags)
        if is_promised:
            self.may_return -= gone
        else:
            self.may_return |= gone & self.may_be_found
        self.may_be_found -= gone
        for lease in held:
            for claim in lease.claims.values():
                claim.doomed |= claim.ticket.spec.key in gone

    def restarted(self) -> None:
        self.may_be_found |= self.may_return
        self.may_return.clear()
        self.unsound = 0

    def require_findable(self, keys: Collection[SegmentKey], how: str) -> None:
        strange = [f"{NAMES[key]}" for key in keys if key not in self.may_be_found]
        require(not strange, "found again", f"{how} shows {strange}")


def require_answer(acquired: Acquired, paths: Collection[Path], claim: bool) -> None:
    """Every path is hits, then tickets, or hits, then one waiter."""
    asked: dict[SegmentKey, SegmentSpec] = {spec.key: spec for path in paths for spec in path}
    hits, tickets = acquired.hits, acquired.tickets
    found = [hit.spec for hit in hits.values()] + [t.spec for t in tickets.values()]
    for key in (*hits, *tickets, *acquired.waiters):
        require(key in asked, "contract", f"{key} was not asked for")
    for spec in found:
        require(spec == asked.get(spec.key), "contract", f"{spec} is no answer")
    for path in paths:
        rest = [spec.key for spec in path]
        while rest and rest[0] in hits:
            del rest[0]
        waits = bool(rest) and rest[0] in acquired.waiters
        computes = claim and all(key in tickets for key in rest)
        require(
            not rest or waits or computes or not claim,
            "contract",
            f"{rest} is neither there, nor awaited, nor to be computed",
        )
    require(claim or not (tickets or acquired.waiters), "contract", "claimed without asking to")
