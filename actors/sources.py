"""Whom to ask for what a node lacks of some chains.

A chain has one home, the first owner of what follows its prompt prefix: it keeps the claims of all
of the chain, so that who gets them gets them at once. A prompt prefix of a client's own has another
owner, which is asked for that alone.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from kvstore.membership import Membership
from kvstore.types import EVERYWHERE, Path


class Source(NamedTuple):
    """Of one part of a chain."""

    first: str | None
    """The first owner; None: this node, which has been asked."""
    others: tuple[str, ...]
    """Who else may have it."""
    paths: tuple[Path, ...]
    """What is asked for: an owner may have a run without what precedes it."""
    claims: bool
    """Whether the first owner keeps the claims."""


Sources = dict[Path, Source]


def sources(tails: Collection[Path], membership: Membership, node_id: str) -> Sources:
    """Of the tails of some chains, and of such runs as have other owners than the end. Those that
    no other node is to be asked for are left out."""
    asked = dict[Path, tuple[tuple[Path, ...], bool]]()
    for tail in tails:
        asked[tail] = (tail, *runs(tail)[1:]), True
    for tail in tails:
        for run in runs(tail)[:-1]:
            asked.setdefault(run, ((run,), False))
    placements = [part[-1].key.placement for part in asked]
    found: Sources = {}
    every = zip(asked.items(), placements, membership.all_owners(placements), strict=True)
    for (part, (paths, claims)), placement, owners in every:
        first, others = _whom(owners, membership.former(placement), node_id)
        if first or others:
            found[part] = Source(first, others, paths, claims)
    return found


def runs(path: Path) -> list[Path]:
    """The path, cut where the owners change: behind a prompt prefix of a client's own. The
    configured prefix, which every node owns, goes with what follows it."""
    cuts = [
        i
        for i in range(1, len(path))
        if path[i - 1].key.placement not in (path[i].key.placement, EVERYWHERE)
    ]
    return [path[a:b] for a, b in zip([0, *cuts], [*cuts, len(path)], strict=True) if a < b]


def _whom(
    owners: Sequence[str], former: Sequence[str], node_id: str
) -> tuple[str | None, tuple[str, ...]]:
    first = owners[0] if owners and owners[0] != node_id else None
    others = (*owners[1:], *former)
    return first, tuple(node for node in others if node != node_id)
