"""Getting from other nodes what one request lacks: one call per shard, and chunks behind it.

The first owner of a chain keeps its claims: it says what it has, what is ours to compute, and what
another computes. Where it has nothing, or has not answered in `hedge_s`, the other owners are
asked as well, and those that owned the chain before while it is being moved.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice

import ray
from ray import ObjectRef

from actors.guests import Fetched
from actors.parcels import CHUNK_BYTES, Parcel, chunks
from actors.peers import Calls, Peers, Signs
from actors.sources import Sources
from actors.stays import Guest
from kvstore.types import LeaseId, Path, SegmentKey

Out = dict[ObjectRef, str]
"""Calls of `fetch` that are not answered yet, and the node of each."""
_MAX_LATE = 256
"""That are remembered; the leases of others end by themselves, after `ticket_ttl_s`."""
_LOOK_S = 0.1
"""How often those that have not answered are looked after."""


@dataclass(slots=True)
class Haul:
    """What came of it, by segment."""

    parcels: dict[SegmentKey, Parcel] = field(default_factory=dict)
    claims: dict[SegmentKey, dict[str, LeaseId]] = field(default_factory=dict)
    """Ours to compute, and to deliver to these nodes under their leases."""
    waiters: dict[SegmentKey, str] = field(default_factory=dict)
    """Being computed, as this node's shard knows."""

    def settles(self, part: Path) -> bool:
        """Whether nothing more has to be asked about it."""
        return all(spec.key in self.parcels or spec.key in self.waiters for spec in part)


class Fetcher:
    def __init__(self, peers: Peers, guest: Guest, hedge_s: float, timeout_s: float) -> None:
        """A shard that gives nothing for `timeout_s` is gone, for a while; one that does not even
        report hangs, and costs no more than `SIGN_S`."""
        self._peers, self._guest = peers, guest
        self._hedge_s, self._timeout_s = hedge_s, timeout_s
        self._lock = threading.Lock()
        self._late: Out = {}

    def fetch(self, sources: Sources, give_up: float, claim: bool) -> Haul:
        """What there is of these parts of chains, and who computes the rest. What cannot be had is
        left out."""
        self._leave_late()
        haul, asked_for, started = Haul(), list(sources), time.monotonic()
        signs = Signs(self._peers)
        hedged = any(source.others for source in sources.values())
        out = self._start(_asked_first(sources, claims=True), claim, give_up)
        out |= self._start(_asked_first(sources, claims=False), False, give_up)
        patience_s = self._hedge_s if hedged else self._timeout_s
        self._take_until(started + patience_s, out, asked_for, give_up, haul, signs)
        seconds = defaultdict[str, list[Path]](list)
        for part, source in sources.items():
            if not haul.settles(part):
                for node in source.others:
                    seconds[node] += source.paths
        asked = self._start(seconds, False, give_up)
        until = self._timeout_s + (time.monotonic() if asked else started)
        out |= asked
        self._take_until(until, out, asked_for, give_up, haul, signs)
        if until <= time.monotonic() < give_up:
            for node in out.values():
                self._peers.lost(node)
        self._remember(out)
        return haul

    def _start(self, asked: dict[str, list[Path]], claim: bool, give_up: float) -> Out:
        left = give_up - time.monotonic()
        if left <= 0:
            return {}
        arguments = {
            n: (self._guest, paths, left, claim, CHUNK_BYTES) for n, paths in asked.items()
        }
        return {call: node for node, call in self._peers.start(arguments, "fetch").items()}

    def _take_until(
        self,
        until: float,
        out: Out,
        asked_for: list[Path],
        give_up: float,
        haul: Haul,
        signs: Signs,
    ) -> None:
        """Take replies as they come, while anything is missing; what stays in `out` did not, and of
        those that hang nothing will."""
        until = min(until, give_up)
        while out and not all(map(haul.settles, asked_for)):
            left = max(0.0, until - time.monotonic())
            ready, _ = ray.wait(list(out), timeout=min(_LOOK_S, left))
            if ready:
                node = out.pop(ready[0])
                for reply in self._peers.gather({node: ready[0]}, self._timeout_s).values():
                    self._take(node, reply, give_up, haul)
            elif left <= _LOOK_S:
                break
            else:
                hang = signs.missing(set(out.values()))
                self._remember({call: out.pop(call) for call in list(out) if out[call] in hang})

    def _remember(self, out: Out) -> None:
        """What is still to be answered."""
        with self._lock:
            self._late |= islice(out.items(), max(0, _MAX_LATE - len(self._late)))

    def _leave_late(self) -> None:
        """Replies that nobody waited for: what they claim for us would keep others waiting."""
        with self._lock:
            if not self._late:
                return
            arrived, _ = ray.wait(list(self._late), num_returns=len(self._late), timeout=0)
            late = [(self._late.pop(call), call) for call in arrived]
        for node, call in late:
            for reply in self._peers.gather({node: call}, self._timeout_s).values():
                self._peers.call(node, "leave", reply.lease_id)

    def _take(self, node: str, reply: Fetched, give_up: float, haul: Haul) -> None:
        haul.parcels |= {parcel.spec.key: parcel for parcel in reply.parcels}
        for key in reply.tickets:
            haul.claims.setdefault(key, {})[node] = reply.lease_id
        haul.waiters |= dict.fromkeys(reply.waiters, node)
        self._read_rest(node, reply, give_up, haul)
        if not reply.tickets:
            self._peers.call(node, "leave", reply.lease_id)

    def _read_rest(self, node: str, reply: Fetched, give_up: float, haul: Haul) -> None:
        """The next chunk is on its way while one is taken."""
        rest = [spec for spec in reply.found if spec.key not in haul.parcels]
        coming: Calls = {}
        for chunk in [*chunks(rest, CHUNK_BYTES), None]:
            arriving, coming = coming, {}
            if chunk is not None:
                keys = [spec.key for spec in chunk]
                coming = self._peers.start({node: (reply.lease_id, keys)}, "read")
            left = max(0.0, min(self._timeout_s, give_up - time.monotonic()))
            answers = self._peers.gather(arriving, left)
            for parcels in answers.values():
                haul.parcels |= {parcel.spec.key: parcel for parcel in parcels}
            if arriving and not answers:
                return  # nothing came of this chunk: what follows would take as long


def _asked_first(sources: Sources, claims: bool) -> dict[str, list[Path]]:
    """By first owner, what is asked of it, with claims or without."""
    asked = defaultdict[str, list[Path]](list)
    for source in sources.values():
        if source.first and source.claims == claims:
            asked[source.first] += source.paths
    return asked
