"""Which nodes share the store: made of what their shards say, and told to all of them.

It holds nothing that the shards do not know: one that begins goes on from the latest membership
that any of them followed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from actors.membership_view import POLL_S
from actors.node_removals import SILENT_S
from actors.peers import Peers
from actors.shard_names import node_name
from actors.shard_report import ShardReport
from cluster.following import Following
from cluster.telling import Telling
from kvstore.membership import Member, Membership, MemberState
from kvstore.supervised import each

logger = logging.getLogger(__name__)

LOST_AFTER_S = SILENT_S + 2.0
"""A shard that says nothing for so long is no member; Ray restarts one in less, and one that only
hangs has noticed before."""
_MAX_STEP_S = 5.0
"""A step that takes longer is none: this process stood still, and heard nobody."""
SETTLE_S = 3 * POLL_S
"""How long a membership stands before the next one lets nodes drop what they gave away: until then
every process has heard of it, and looks in both places."""
_REPORT_TIMEOUT_S = 5.0
_CAPACITY_NEWS = 0.1
"""A capacity that changed by less is no reason to move anything."""
_CHANGES = 50


@dataclass(frozen=True, slots=True)
class Change:
    """One membership, and what brought it about."""

    epoch: int
    at: float
    """Seconds since the epoch of time."""
    reason: str


class MembershipKeeper:
    """One thread takes the steps, any asks."""

    def __init__(self, copies: int, peers: Peers, start: Callable[[str], object]) -> None:
        """`copies`: how many nodes are to own a segment. `start` starts a node's shard."""
        self._copies, self._peers, self._start = copies, peers, start
        self._lock = threading.Lock()
        self._membership = Membership(0, (), copies)
        self._known_epoch = 0
        """The latest that anybody knows of."""
        self._settled: tuple[Member, ...] = ()
        self._heard: dict[str, float] = {}
        self._joining: frozenset[str] = frozenset()
        self._following, self._telling = Following(peers), Telling(peers)
        self._clock_s, self._looked_at = 0.0, time.monotonic()
        self._unknown_since: float | None = None
        """When nobody who knows of all that was removed was left."""
        self._draining: set[str] = set()
        self._published_at = time.monotonic()
        self._changes: deque[Change] = deque(maxlen=_CHANGES)
        self._is_resumed = False
        self.reports: dict[str, ShardReport] = {}
        """The last of each member."""

    def membership(self, known_epoch: int = 0) -> Membership:
        """Whoever asks says the epoch that it knows; the next one is later than that, too."""
        with self._lock:
            self._known_epoch = max(self._known_epoch, known_epoch)
            return self._membership

    def sharers(self) -> frozenset[str] | None:
        """Ids of the members, and of the nodes that are told of removals just now to become such;
        None before they are known. Whoever is none of these is told before it becomes one."""
        with self._lock:
            members = self._membership.node_ids
            return members | self._joining if self._membership.epoch else None

    def drain(self, node: str) -> None:
        """Its segments go to the others; it owns nothing any more. By its name or id; raises
        ValueError for a node that is no member."""
        with self._lock:
            members = self._membership.members
            found = [m.node_id for m in members if node in (m.node_id, m.name)]
            if not found:
                known = ", ".join(member.name for member in members)
                raise ValueError(f"is {node!r}, must be one of {known}")
            self._draining.update(found)

    def status(self) -> dict[str, Any]:
        """Members with what their shards said last, and the latest changes, as plain data."""
        with self._lock:
            membership, changes = self._membership, list(self._changes)
        return {
            "epoch": membership.epoch,
            "replication": membership.copies,
            "moving": bool(membership.before),
            "nodes": [
                {**asdict(member), **self._report_of(member.node_id)}
                for member in membership.members
            ],
            "changes": [asdict(change) for change in changes],
        }

    def step(self, alive: set[str]) -> None:
        """Start what is missing on these nodes, tell all of them the latest membership, and make
        the next one of what they say."""
        if not self._is_resumed:
            self._resume(alive)
        try:
            each(alive - self._heard.keys(), self._start)
        finally:
            self._ask(alive)

    def _report_of(self, node_id: str) -> dict[str, Any]:
        report = self.reports.get(node_id)
        return {} if report is None else asdict(report)

    def _resume(self, alive: set[str]) -> None:
        """From the latest membership that any shard followed, as far as they answer."""
        asked = self._peers.start(dict.fromkeys(alive, ()), "membership")
        for known in self._peers.gather(asked, _REPORT_TIMEOUT_S).values():
            if known.epoch > self._membership.epoch:
                self._membership = known
        members = self._membership.members
        self._settled = self._membership.before or members
        self._draining |= {m.node_id for m in members if m.state == "draining"}
        # Members until they have been silent for long enough: they may be restarting as well.
        # Who is none of them has to be told first.
        ids, now = self._membership.node_ids, self._now()
        self._heard = {node_id: self._heard.get(node_id, now) for node_id in ids}
        self.reports = {node_id: r for node_id, r in self.reports.items() if node_id in ids}
        self._is_resumed = True

    def _ask(self, alive: set[str]) -> None:
        reports = self._following.tell(alive, self._membership)
        now = self._now()
        told = self._tell(reports, alive, now)
        for node_id, report in reports.items():
            if node_id in self._heard or node_id in told:
                self.reports[node_id], self._heard[node_id] = report, now
        if any(r.epoch > self._membership.epoch for r in self.reports.values()):
            self._resume(alive)  # from one that did not answer when this process began
        for node_id in [n for n in self._heard if not self._is_there(n, alive, now)]:
            del self._heard[node_id]
            self.reports.pop(node_id, None)
        with self._lock:
            self._draining &= self._heard.keys()
            self._update(self._members())

    def _tell(self, reports: Mapping[str, ShardReport], alive: set[str], now: float) -> set[str]:
        """Those that know of all that was removed; who is no member does not, whatever it says.
        Nodes count as joining before the others are asked what they know: a removal that is made
        later asks these nodes too."""
        members = self._membership.node_ids
        told = {n for n, report in reports.items() if report.is_told and n in members}
        untold = reports.keys() - told
        with self._lock:
            self._joining = frozenset(untold)
        silent = self.reports.keys() - reports.keys()
        if not untold or any(self.reports[node_id].is_told for node_id in silent):
            return told  # a member that is silent may know of something that nobody else does
        return told | self._telling.tell(untold, told, self._awaited(told, alive, now))

    def _awaited(self, told: set[str], alive: set[str], now: float) -> set[str]:
        """Where all begin anew, each may know of something, and they do not begin at once."""
        if told:
            self._unknown_since = None
            return set()
        if self._unknown_since is None:
            self._unknown_since = now
        return alive if now - self._unknown_since < LOST_AFTER_S else set()

    def _now(self) -> float:
        """Seconds, as far as this process ran."""
        now = time.monotonic()
        self._clock_s += min(now - self._looked_at, _MAX_STEP_S)
        self._looked_at = now
        return self._clock_s

    def _is_there(self, node_id: str, alive: set[str], now: float) -> bool:
        return node_id in alive and now - self._heard[node_id] < LOST_AFTER_S

    def _members(self) -> tuple[Member, ...]:
        """Of the nodes that are heard of, each under a name of its own."""
        known = {m.node_id: m for m in self._membership.members if m.node_id in self._heard}
        taken = {m.name for m in known.values()}
        members = []
        for node_id in sorted(self._heard):
            old = known.get(node_id)
            if old is None or _is_makeshift(old):
                # Several nodes of one machine may have one name, and one that replaces another may
                # come before the other is known to be lost.
                name = node_name(node_id)
                name = name if name not in taken else _makeshift(name, node_id)
            else:
                name = old.name
            taken.add(name)
            members.append(self._member(node_id, name, old))
        return tuple(members)

    def _member(self, node_id: str, name: str, known: Member | None) -> Member:
        report = self.reports.get(node_id)
        state: MemberState = "draining" if node_id in self._draining else "up"
        if known is None:
            assert report is not None, f"{node_id} was heard of before it said anything"
            return Member(node_id, name, report.capacity_bytes, state)
        capacity = known.capacity_bytes if report is None else report.capacity_bytes
        if abs(capacity / known.capacity_bytes - 1) < _CAPACITY_NEWS:
            capacity = known.capacity_bytes
        return replace(known, name=name, capacity_bytes=capacity, state=state)

    def _update(self, members: tuple[Member, ...]) -> None:
        latest = self._membership
        if members != latest.members:
            before = self._settled if self._settled != members else ()
            self._publish(members, before, _difference(latest.members, members))
        elif latest.before and self._all_done(latest.epoch) and self._has_stood():
            self._publish(latest.members, (), "everything has moved")
        elif self._known_epoch > latest.epoch:
            self._publish(latest.members, latest.before, "a later epoch is known")

    def _all_done(self, epoch: int) -> bool:
        done = [n for n, report in self.reports.items() if report.done_epoch >= epoch]
        return len(done) == len(self._heard)

    def _has_stood(self) -> bool:
        return time.monotonic() - self._published_at > SETTLE_S

    def _publish(self, members: tuple[Member, ...], before: tuple[Member, ...], why: str) -> None:
        epoch = _later_than(self._membership.epoch, self._known_epoch)
        self._membership = Membership(epoch, members, self._copies, before)
        if not before:
            self._settled = members
        self._published_at = time.monotonic()
        self._changes.append(Change(epoch, time.time(), why))
        logger.info("epoch %d: %s", epoch, why)


def _later_than(*epochs: int) -> int:
    """The time in ms: a directory that knows nothing of its predecessors, because all shards died
    with the last of them, does not begin anew for those who do. Later ones follow upon what is
    known, whatever the clocks say."""
    return max(time.time_ns() // 1_000_000, *(epoch + 1 for epoch in epochs))


def _makeshift(name: str, node_id: str) -> str:
    return f"{name}/{node_id}"


def _is_makeshift(member: Member) -> bool:
    return member.name.endswith(_makeshift("", member.node_id))


def _difference(old: tuple[Member, ...], new: tuple[Member, ...]) -> str:
    was, now = ({m.node_id: m for m in members} for members in (old, new))
    said = [f"{now[n].name} joined" for n in now.keys() - was.keys()]
    said += [f"{was[n].name} left" for n in was.keys() - now.keys()]
    for node_id in now.keys() & was.keys():
        if now[node_id].state != was[node_id].state:
            said.append(f"{now[node_id].name} is {now[node_id].state}")
        elif now[node_id].name != was[node_id].name:
            said.append(f"{was[node_id].name} is {now[node_id].name}")
        elif now[node_id] != was[node_id]:
            said.append(f"{now[node_id].name} has {now[node_id].capacity_bytes} bytes")
    return ", ".join(sorted(said))
