"""What one membership asks a node to give to others, and what of it they have not confirmed yet.

A segment is let go of when every node that owns it now has said that it keeps it. What a receiver
did not take, time after time, is unplaced: it stays here and keeps nobody waiting.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from kvstore.membership import Membership
from kvstore.types import SegmentKey, SegmentSpec

MAX_REFUSALS = 10
"""Of one segment by one node; then it is unplaced until the membership changes again."""


class Batch(NamedTuple):
    """For one node."""

    node_id: str
    specs: list[SegmentSpec]


class Handover:
    """Not thread-safe: its thread's own."""

    def __init__(self, node_id: str, membership: Membership, specs: Sequence[SegmentSpec]) -> None:
        """`specs`: all that this node has."""
        self.membership = membership
        self._node_id = node_id
        self._waiting: dict[str, dict[SegmentKey, SegmentSpec]] = {}
        self._open: Counter[SegmentKey] = Counter()
        """How many nodes have still to confirm each."""
        self._foreign: list[SegmentKey] = []
        """To be let go of."""
        self._refusals: Counter[tuple[str, SegmentKey]] = Counter()
        self._unplaced: set[SegmentKey] = set()
        self._plan(specs)

    @property
    def done(self) -> bool:
        return not self._waiting

    @property
    def num_unplaced(self) -> int:
        return len(self._unplaced)

    def num_waiting(self) -> dict[str, int]:
        """Segments that are not confirmed, by the name of the node that is to keep them."""
        names = {member.node_id: member.name for member in self.membership.members}
        return {names.get(node, node): len(specs) for node, specs in self._waiting.items()}

    def batches(self, max_bytes: int, max_segments: int) -> list[Batch]:
        """All that waits, in the order in which it was found; for no more than a node takes at a
        time, one segment at least."""
        found = []
        for node_id, waiting in self._waiting.items():
            specs, nbytes = list[SegmentSpec](), 0
            for spec in waiting.values():
                nbytes += spec.layout.nbytes
                if specs and (nbytes > max_bytes or len(specs) == max_segments):
                    found.append(Batch(node_id, specs))
                    specs, nbytes = [], spec.layout.nbytes
                specs.append(spec)
            found.append(Batch(node_id, specs))
        return found

    def confirm(self, node_id: str, keys: Collection[SegmentKey]) -> None:
        """That node keeps these, or this node has not got them any more."""
        waiting = self._waiting.get(node_id, {})
        for key in keys:
            if waiting.pop(key, None) is not None:
                self._open[key] -= 1
        if not waiting:
            self._waiting.pop(node_id, None)

    def refuse(self, node_id: str, keys: Collection[SegmentKey]) -> None:
        """That node did not take these."""
        for key in keys:
            self._refusals[node_id, key] += 1
            if self._refusals[node_id, key] >= MAX_REFUSALS:
                self._unplaced.add(key)
                self.confirm(node_id, [key])

    def take_confirmed(self) -> list[SegmentKey]:
        """What this node may let go of, each once."""
        free = [key for key in self._foreign if not self._open[key]]
        self._foreign = [key for key in self._foreign if self._open[key]]
        return [key for key in free if key not in self._unplaced]

    def _plan(self, specs: Sequence[SegmentSpec]) -> None:
        placements = [spec.key.placement for spec in specs]
        now = self.membership.all_owners(placements)
        before = self.membership.earlier.all_owners(placements)
        for spec, own, earlier in zip(specs, now, before, strict=True):
            is_foreign = bool(own) and self._node_id not in own
            if is_foreign and not self.membership.before:
                self._foreign.append(spec.key)
            for node_id in self._receivers(own, earlier):
                self._waiting.setdefault(node_id, {})[spec.key] = spec
                self._open[spec.key] += 1

    def _receivers(self, now: Sequence[str], before: Sequence[str]) -> list[str]:
        """Whom this node gives a segment to, and hears from that it is kept."""
        senders = [node for node in before if node in self.membership.node_ids]
        if senders and senders[0] != self._node_id and self._node_id in before:
            return []
        had = before if self._node_id in before else ()
        return [node for node in now if node not in had and node != self._node_id]
