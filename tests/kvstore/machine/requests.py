"""What a process does with its requests: acquire, compute, commit, give back, or not."""

from collections.abc import Callable

from kvstore.errors import CorruptSegmentError
from kvstore.types import Extent, SegmentKey, Ticket, TicketId
from tests.kvstore.machine.fairness import holdings_of, require_fair
from tests.kvstore.machine.model import Claim, Held, require, require_answer
from tests.kvstore.machine.universe import NAMES, PATHS, content
from tests.kvstore.machine.world import Process, World, is_refused
from tests.kvstore.segments import crcs_of


def acquire(world: World, who: int, first: int, second: int, how: int) -> bool:
    process = world.processes[who]
    if not world.room_for_a_lease(process):
        return False
    paths = list(dict.fromkeys((PATHS[first], PATHS[second])))
    streamed, claim, in_time = how % 2 == 1, how % 8 < 6, how % 16 < 12
    known = set(world.model.may_be_found)
    flying = {claim.ticket.spec.key for claim in world.claims()}
    holdings = holdings_of(world)
    acquired = process.acquire(paths, 5.0 if in_time else 0.0, streamed, claim)
    require_fair(world, holdings)
    require_answer(acquired, paths, claim)
    require(
        acquired.hits.keys() <= known,
        "found again",
        f"hits {[NAMES[key] for key in set(acquired.hits) - known]}",
    )
    awaited = acquired.waiters - flying
    require(not awaited, "contract", f"{awaited} are awaited, and nobody computes them")
    held = Held(acquired)
    for key, hit in acquired.hits.items():
        (held.arriving if hit.arriving else held.pinned)[key] = hit.extent
    for ticket in acquired.tickets.values():
        if ticket.extent is not None:
            _require_free(world, ticket, ticket.extent)
            held.claims[ticket.ticket_id] = Claim(ticket, ticket.extent)
    process.held.append(held)
    return True


def compute(world: World, who: int, which: int) -> bool:
    """All that a lease has claimed is written."""
    process, held = _lease(world, who, which, lambda held: bool(held.claims))
    if held is None:
        return False
    for claim in held.claims.values():
        process.writable(held.acquired, claim.ticket)[:] = content(claim.ticket.spec.key)
        claim.written = True
    return True


def write(world: World, who: int, which: int, how: int) -> bool:
    """A computation goes into its extent: whole, in half, or wrong."""
    found = _claim(world, who, which)
    if found is None:
        return False
    process, held, claim = found
    into, right = process.writable(held.acquired, claim.ticket), content(claim.ticket.spec.key)
    if how < 6:
        into[:] = right
    elif how < 8:
        into[: len(right) // 2] = right[: len(right) // 2]
    else:
        into[:] = bytes(len(right))
    claim.written = how < 6
    return True


def commit(world: World, who: int, which: int, how: int) -> bool:
    """Publish what is written of a lease with the checksums of what should be there; `how` 0 takes
    in what was not written to its end."""

    def is_ready(claim: Claim) -> bool:
        return claim.written or how == 0

    process, held = _lease(world, who, which, lambda h: any(map(is_ready, h.claims.values())))
    if held is None:
        return False
    claims = [claim for claim in held.claims.values() if is_ready(claim)]
    unsound = [c for c in claims if not c.written and not _is_right(process, held, c)]
    sound = [c for c in claims if c not in unsound]
    try:
        process.publish([c.ticket for c in claims], [crcs_of(c.ticket.spec) for c in claims])
        raised = False
    except CorruptSegmentError:
        raised = True
    require(raised == bool(unsound), "wrong bytes", f"{len(unsound)} unsound, raised {raised}")
    for claim in claims:
        del held.claims[claim.ticket.ticket_id]
    for claim in sound:
        held.pinned[claim.ticket.spec.key] = claim.extent
        world.model.committed(claim)
    world.model.unsound += len(unsound)
    there = process.locate([c.ticket.spec.key for c in sound])
    lost = [str(c.ticket.spec.key) for c in sound if there.get(c.ticket.spec.key) != "dram"]
    lost = [] if any(c.doomed for c in sound) else lost
    require(not lost, "lost", f"{lost} were committed and are pinned, and are not in DRAM")
    return True


def abort(world: World, who: int, which: int) -> bool:
    found = _claim(world, who, which)
    if found is None:
        return False
    process, held, claim = found
    process.abort(held.acquired, [claim.ticket])
    process.abort(held.acquired, [claim.ticket])
    del held.claims[claim.ticket.ticket_id]
    refused = is_refused(process, claim.ticket.ticket_id)
    require(refused, "contract", "a ticket that was given back is committed")
    return True


def release(world: World, who: int, which: int) -> bool:
    process, held = _lease(world, who, which)
    if held is None:
        return False
    process.release(held.acquired.lease_id)
    process.release(held.acquired.lease_id)
    world.end(process, held)
    return True


def trim(world: World, who: int, which: int, kept: int) -> bool:
    """Keep the segments whose bit is set in `kept`."""
    process, held = _lease(world, who, which)
    if held is None:
        return False
    keys = [*held.pinned, *held.arriving]
    keeps = [key for i, key in enumerate(keys) if kept >> i & 1]
    process.trim({held.acquired.lease_id: keeps}, [key for key in keys if key not in keeps])
    for extents in (held.pinned, held.arriving):
        for key in [key for key in extents if key not in keeps]:
            world.ghosts.append((process, held.acquired, key, extents.pop(key)))
    held.claims.clear()
    if not keeps:
        world.end(process, held)
    return True


def _lease(
    world: World, who: int, which: int, is_meant: Callable[[Held], bool] = lambda held: True
) -> tuple[Process, Held | None]:
    process = world.processes[who]
    meant = [held for held in process.held if is_meant(held)]
    return process, meant[which % len(meant)] if meant else None


def _claim(world: World, who: int, which: int) -> tuple[Process, Held, Claim] | None:
    process = world.processes[who]
    open_ones = [(held, claim) for held in process.held for claim in held.claims.values()]
    if not open_ones:
        return None
    held, claim = open_ones[which % len(open_ones)]
    return process, held, claim


def _is_right(process: Process, held: Held, claim: Claim) -> bool:
    return bytes(process.writable(held.acquired, claim.ticket)) == content(claim.ticket.spec.key)


def _require_free(world: World, ticket: Ticket, extent: Extent) -> None:
    """The room of a ticket is nobody else's, and nobody else computes its segment."""
    others = [*world.held]
    taken: list[tuple[SegmentKey | TicketId, Extent]] = []
    for held in others:
        taken += held.pinned.items()
        for ticket_id, claim in held.claims.items():
            taken.append((ticket_id, claim.extent))
            double = claim.ticket.spec.key == ticket.spec.key
            require(not double, "contract", f"{ticket.spec.key} is computed twice")
    end = extent.offset + extent.nbytes
    for name, other in taken:
        apart = end <= other.offset or other.offset + other.nbytes <= extent.offset
        require(apart, "wrong bytes", f"the room of {ticket} is that of {name}: {other}")
