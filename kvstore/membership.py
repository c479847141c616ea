"""Which nodes share the store, and which of them owns what: weighted rendezvous hashing.

Every node gets a score for a placement, and the best ones own it (Thaler and Ravishankar, "Using
name-based mappings to increase hit rates", 1998); with score = -weight / ln(u), u uniform in
(0, 1), a node owns its share of the weights (Schindelhauer and Schomaker, "Weighted distributed
hash tables", 2005). A node that comes takes its share from all others alike and nothing else
moves; one that goes leaves its share to all others alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kvstore.types import EVERYWHERE

MemberState = Literal["up", "draining"]

_AT_ONCE = 65_536
"""Placements that are ranked in one piece: their scores stay in the cache."""


@dataclass(frozen=True, slots=True)
class Member:
    node_id: str
    name: str
    """By which it is ranked: the same after a restart, so that it owns what its disk has."""
    capacity_bytes: int
    state: MemberState = "up"
    """A draining one owns nothing any more, and still has what others do not have yet."""


@dataclass(frozen=True)
class Membership:
    """One state of the cluster; a later one has a higher epoch, whichever directory made it."""

    epoch: int
    members: tuple[Member, ...]
    copies: int = 1
    """How many nodes own a segment, as far as there are so many."""
    before: tuple[Member, ...] = ()
    """The members of an earlier epoch, while what they owned is still being moved."""

    @cached_property
    def node_ids(self) -> frozenset[str]:
        return frozenset(member.node_id for member in self.members)

    def owners(self, placement: bytes) -> tuple[str, ...]:
        """Ids of the nodes that own it, the first one first; none when no node is up."""
        return self.all_owners([placement])[0]

    def all_owners(self, placements: Sequence[bytes]) -> list[tuple[str, ...]]:
        """Of each placement."""
        everyone = tuple(self._ids[name] for name in self._rendezvous.names)
        ranked = self._rendezvous.rank(_numbers(placements), self.copies)
        return [
            everyone if placement == EVERYWHERE else tuple(everyone[i] for i in row)
            for placement, row in zip(placements, ranked, strict=True)
        ]

    def former(self, placement: bytes) -> tuple[str, ...]:
        """Members that owned it before, and do not now: where it is if its owner has not got it
        yet."""
        if not self.before:
            return ()
        now = self.owners(placement)
        earlier = self.earlier.owners(placement)
        return tuple(n for n in earlier if n not in now and n in self.node_ids)

    @cached_property
    def earlier(self) -> "Membership":
        """Who owned what before; where nothing is being moved, the same as now."""
        return Membership(0, self.before or self.members, self.copies)

    @cached_property
    def _rendezvous(self) -> "Rendezvous":
        up = [member for member in self.members if member.state == "up"]
        return Rendezvous({member.name: member.capacity_bytes for member in up})

    @cached_property
    def _ids(self) -> dict[str, str]:
        return {member.name: member.node_id for member in self.members}


class Rendezvous:
    """The order of weighted names for any placement."""

    def __init__(self, weights: dict[str, int]) -> None:
        """Raises ValueError for a weight that is not above 0."""
        if any(weight <= 0 for weight in weights.values()):
            raise ValueError(f"weights are {weights}, must be above 0")
        self.names = sorted(weights)
        self._weights = np.array([weights[name] for name in self.names], np.float64)
        self._seeds = np.array([_seed(name) for name in self.names], np.uint64)

    def rank(self, placements: NDArray[np.uint64], num: int) -> NDArray[np.intp]:
        """[placements, min(num, names)]: indices into `names`, best first."""
        num = min(num, len(self.names))
        if num == 0 or not len(placements):
            return np.empty((len(placements), num), np.intp)
        parts = [
            self._best(placements[i : i + _AT_ONCE], num)
            for i in range(0, len(placements), _AT_ONCE)
        ]
        return np.concatenate(parts)

    def _best(self, placements: NDArray[np.uint64], num: int) -> NDArray[np.intp]:
        uniform = _uniform(_mixed(placements[:, None] ^ self._seeds))
        scores = -self._weights / np.log(uniform)
        if num == 1:
            first: NDArray[np.intp] = scores.argmax(1)[:, None]
            return first
        best: NDArray[np.intp] = np.argsort(-scores, axis=1, kind="stable")[:, :num]
        return best


def _numbers(placements: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(placements), "<u8").astype(np.uint64)


def _seed(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finalizer: every bit of the input moves half of the output's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _uniform(x: NDArray[np.uint64]) -> NDArray[np.float64]:
    """In (0, 1), 53 bits of each."""
    return ((x >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
