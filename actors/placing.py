"""Putting what came from other nodes into the arena, under the lease that asked for it."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from actors.fetching import Haul
from actors.store_client import RayStoreClient
from kvstore.errors import CorruptSegmentError
from kvstore.types import Acquired, Hit, Lineage, Path, SegmentKey, Ticket


def tail_of(path: Path, acquired: Acquired) -> Path:
    """What is neither there nor computed by another on this node; nothing behind a waiter."""
    for i, spec in enumerate(path):
        if spec.key in acquired.waiters:
            return ()
        if spec.key not in acquired.hits:
            return path[i:]
    return ()


def found_heads(tails: Sequence[Path], haul: Haul) -> list[Path]:
    """Of each tail what was found without a gap."""
    heads = []
    for tail in tails:
        missing = (i for i, spec in enumerate(tail) if spec.key not in haul.parcels)
        if head := tail[: next(missing, len(tail))]:
            heads.append(head)
    return heads


def placed(
    local: RayStoreClient, acquired: Acquired, heads: Sequence[Path], haul: Haul
) -> Acquired:
    """With these segments as hits instead of tickets; damaged ones stay to be computed."""
    tickets, crcs, lineages = list[Ticket](), list[tuple[int, ...]](), list[Lineage | None]()
    for key in dict.fromkeys(spec.key for head in heads for spec in head):
        ticket, parcel = acquired.tickets.get(key), haul.parcels[key]
        if ticket is None or ticket.extent is None:
            continue
        if parcel.fits and parcel.spec == ticket.spec:
            parcel.copy_into(local.writable(acquired, ticket))
            tickets.append(ticket)
            crcs.append(parcel.crcs)
            lineages.append(parcel.lineage)
    try:
        local.publish(tickets, crcs, lineages)
    except CorruptSegmentError:
        return _without_damaged(acquired, tickets, haul)
    return _with_hits(acquired, tickets)


def closes_holes(acquired: Acquired, tails: Sequence[Path]) -> bool:
    """Whether what was placed leads to segments that this node had already, and could not match:
    those were given no room to be computed into."""
    for tail in tails:
        missing = (i for i, spec in enumerate(tail) if spec.key not in acquired.hits)
        first = next(missing, 0)
        ticket = acquired.tickets.get(tail[first].key)
        if first and ticket and ticket.extent is None:
            return True
    return False


def await_elsewhere(
    local: RayStoreClient, acquired: Acquired, tails: Sequence[Path], haul: Haul
) -> Acquired:
    """What another node is computing is no ticket of ours: given back here, and waited for."""
    waiters, given_back = set[SegmentKey](), dict[SegmentKey, Ticket]()
    for tail in tails:
        rest = [spec.key for spec in tail if spec.key not in acquired.hits]
        if rest and rest[0] in haul.waiters and rest[0] in acquired.tickets:
            waiters.add(rest[0])
            given_back |= {k: acquired.tickets[k] for k in rest if k in acquired.tickets}
    if not waiters:
        return acquired
    local.abort(acquired, list(given_back.values()))
    tickets = {k: t for k, t in acquired.tickets.items() if k not in given_back}
    return replace(acquired, tickets=tickets, waiters=acquired.waiters | waiters)


def relabelled(acquired: Acquired, fetched: Collection[SegmentKey]) -> Acquired:
    """These hits were found on another node."""
    hits = {k: replace(h, tier="peer") if k in fetched else h for k, h in acquired.hits.items()}
    return replace(acquired, hits=hits)


def _with_hits(acquired: Acquired, tickets: Sequence[Ticket]) -> Acquired:
    hits = {t.spec.key: Hit(t.spec, t.extent, "peer") for t in tickets if t.extent is not None}
    left = {key: ticket for key, ticket in acquired.tickets.items() if key not in hits}
    return replace(acquired, hits={**acquired.hits, **hits}, tickets=left)


def _without_damaged(acquired: Acquired, tickets: Sequence[Ticket], haul: Haul) -> Acquired:
    """The sound ones were published. Of the others the extent is spent: they are computed, and kept
    by who computes them."""
    sound = [t for t in tickets if haul.parcels[t.spec.key].is_sound]
    damaged = [t for t in tickets if t not in sound]
    acquired = _with_hits(acquired, sound)
    spent = {t.spec.key: replace(t, extent=None) for t in damaged}
    return replace(acquired, tickets={**acquired.tickets, **spent})
