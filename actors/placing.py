"""Putting what came from other nodes into the arena, under the lease that asked for it."""

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from actors.fetching import Haul
from actors.store_client import RayStoreClient
from kvstore.errors import CorruptSegmentError, KVStoreError
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


def matched_again(
    local: RayStoreClient,
    acquired: Acquired,
    paths: Sequence[Path],
    give_up: float,
    streamed: bool,
) -> Acquired:
    """With what lies behind the segments that were placed, under a lease of its own. Those stay
    pinned under the former one meanwhile."""
    local.trim({acquired.lease_id: list(acquired.hits)})
    again = local.acquire(paths, _left(give_up), streamed)
    return relabelled(again, {k for k, hit in acquired.hits.items() if hit.tier == "peer"})


def copied(
    local: RayStoreClient,
    paths: Sequence[Path],
    heads: Sequence[Path],
    haul: Haul,
    give_up: float,
    streamed: bool,
) -> Acquired:
    """What is there of the paths, after what was found has become a copy here."""
    taken = local.acquire(heads, _left(give_up))
    try:
        copies = placed(local, taken, heads, haul).hits
        again = local.acquire(paths, _left(give_up), streamed, claim=False)
    finally:
        with suppress(KVStoreError):  # a shard that does not answer has been told
            local.release(taken.lease_id)
    return relabelled(again, {k for k, hit in copies.items() if hit.tier == "peer"})


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


def _left(give_up: float) -> float:
    return max(0.0, give_up - time.monotonic())


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
