"""Everything that the metadata lock guards, and the few ways in which it changes.

One lock, and not one thread with a queue: both let a single writer at a time change the metadata,
but a lock lets the caller's own thread do it, without two switches of thread per call. The rule
that makes it right is the same: under the lock nothing waits, reads a payload or touches a disk.
"""

import itertools
import threading
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

from kvstore.arena import granules
from kvstore.burial import bury
from kvstore.config import Admission, StoreConfig
from kvstore.copies import Copies, Owns
from kvstore.costs import PrefillProfile
from kvstore.counters import Counters
from kvstore.deletions import DeletionList
from kvstore.errors import StoreUnavailableError
from kvstore.eviction import Eviction
from kvstore.families import Family
from kvstore.holders import Holders
from kvstore.leases import Lease, Leases
from kvstore.levels import Level
from kvstore.parts import DigestParts
from kvstore.pending import PendingWindow
from kvstore.policies import create_policy
from kvstore.promises import holder_of
from kvstore.recent import RecentRemovals
from kvstore.shelf import Shelf
from kvstore.singleflight import Claims, OpenTicket
from kvstore.supervised import Supervisor
from kvstore.tiers import create_dram_tier, create_files, create_remote_tier, create_ssd_tier
from kvstore.tiers.dram import Slot
from kvstore.tiers.files import Files
from kvstore.tiers.slow import SlowTier
from kvstore.turns import at_once, in_turns
from kvstore.types import Extent, SegmentKey, SegmentSpec

_ATTEMPTS = 3
"""At making room for one segment: others may take what came free."""


class Books:
    """One shard's metadata. Every method is called with `lock` held."""

    def __init__(self, config: StoreConfig, node: str) -> None:
        """Raises StoreConfigError when the arena or the folder cannot be had; then nothing is
        left."""
        self._config = config
        self.profile = _profile(config)
        self.lookahead_requests = config.lookahead_requests
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        """Notified when a claim or a read ends."""
        self.queue_changed = threading.Condition(self.lock)
        """Notified when reading ahead may have something to do."""
        self.work = threading.Condition(self.lock)
        """Notified when there is something to write, and when there is nothing left."""
        self.threads = Supervisor()
        """All that works for this store; it has a lock of its own."""
        self.files = create_files(config)
        """Of the SSD's folder."""
        self.ssd_folder = Path(config.ssd_dir).expanduser() if config.ssd_dir else None
        slow = _slow_tiers(config, node, self.files)
        try:
            self.holders = Holders(config.dram_dir)
            self.dram = create_dram_tier(config, node)
        except BaseException:
            for tier in slow:
                tier.close()
            raise
        self.dram_shelf = Shelf(create_policy(config.policy, self.profile))
        self.dram.holds.follow(self.dram_shelf.policy)
        self.levels = [self._level(tier) for tier in slow]
        """The slow tiers, fastest first."""
        self.removed = threading.Condition(self.lock)
        """Notified when a tier has made its deletions."""
        self.recent = RecentRemovals()
        self.deletions = DeletionList(self.ssd_folder, self.files) if self.ssd_folder else None
        """Those that a restart must not forget; it has a lock of its own, and takes its time."""
        if self.deletions is not None:
            bury(self.deletions, self.levels, self.lock)
        self.leases = Leases(self.dram)
        self.claims = Claims(config.ticket_ttl_s)
        self.window = PendingWindow()
        self.ahead: DigestParts[None] = DigestParts()
        """Digests of what was read ahead and not needed since."""
        self.counters = Counters()
        self.owns: Owns = lambda keys: [True] * len(keys)
        """Whether a segment is this node's to keep: then it goes to the slow tiers, and they are
        asked for it even before they were listed."""
        self.removing: list[Family] = []
        """What is being taken out of sight, by removals under way."""
        self.num_removal_events = 0
        """How often one of them began or ended."""
        self.copies = Copies(int(config.copies_share * config.dram_bytes), self.dram.holds)
        self._eviction = Eviction(
            self.dram.occupants,
            self.dram_shelf,
            self.dram.shares,
            self.window,
            self.lookahead_requests,
            self.levels,
        )
        self.closed = False
        # Ids of another incarnation must not name anything here.
        self._ids = itertools.count(int(self.dram.arena.incarnation[:8], 16) << 32)

    def next_id(self) -> int:
        return next(self._ids)

    def require_open(self) -> None:
        """Needs no lock; with it, the store stays open as long."""
        if self.closed:
            raise StoreUnavailableError("the store is closed")

    def reserve(self, spec: SegmentSpec, ahead_for: int | None = None) -> Extent | None:
        """`reserving`, at once."""
        return at_once(self.reserving(spec, ahead_for))

    def reserving(
        self, spec: SegmentSpec, ahead_for: int | None = None
    ) -> Generator[None, None, Extent | None]:
        """Room for a segment, as far as `Promises` lets its tenant hold more; what goes for it
        `Eviction` says. `ahead_for`: the rank of the queued request that needs it, which takes
        nothing from those before it. In steps: nothing is reserved before the last."""
        if spec.is_too_deep:
            return None
        nbytes, rank = spec.layout.nbytes, -1 if ahead_for is None else ahead_for
        for attempts_left in reversed(range(_ATTEMPTS + 1)):
            if not self.dram.may_reserve(spec):
                break
            if self.dram.can_reserve(nbytes):
                return self.reserve_again(spec)
            if not attempts_left:
                break
            going = yield from self._eviction.choosing(granules(nbytes), spec.tenant, rank)
            for key in going:
                if self._eviction.may_go(key):
                    self._evict(key)
                if key is not going[-1]:
                    yield
            if not going:
                break
        self.counters.no_room += ahead_for is None
        return None

    def reserve_again(self, spec: SegmentSpec) -> Extent:
        """Room that is there and was its own. Raises CapacityError."""
        return self.dram.reserve(spec.layout.nbytes, spec.tenant, holder_of(spec))

    def can_publish(self, spec: SegmentSpec) -> bool:
        """Whether it is new, is not being removed, and contradicts nothing that is here."""
        is_new = not self.dram.contains(spec.key) and not self.is_being_removed(spec)
        return is_new and self.dram_shelf.can_add(spec)

    def is_being_removed(self, spec: SegmentSpec) -> bool:
        """Whether a removal under way takes it, as far as that is known. Each removal remembers
        what belongs to it."""
        return sum(family.has(spec) for family in self.removing) > 0

    def publish(self, slot: Slot, cost: float | None = None) -> None:
        """Visible from now on, and on its way to the slow tiers. `cost` in seconds per token."""
        self.dram.publish(slot)
        self.note((slot.spec,))
        try:
            self.dram_shelf.add(slot.entry, cost)
        except BaseException:
            self.dram.withdraw(slot)
            raise
        if not self.owns((slot.spec.key,))[0]:
            self.copies.add(slot.entry)
            self.bound_copies()
        self.offer(slot)

    def bound_copies(self) -> bool:
        """When one came, and when some are held no more: that one may be the last to come. Whether
        there may be more to evict."""
        going = self.copies.excess()
        for key in going:
            self._evict(key)
        return bool(going)

    def bound_copies_in_turns(self) -> None:
        """All that have to go. Called without the lock."""
        in_turns(self.lock, iter(self._bound_open_copies, False), bool)

    def _bound_open_copies(self) -> bool:
        return not self.closed and self.bound_copies()

    def offer(self, slot: Slot) -> None:
        """To every slow tier that has not got it and wants it, unless it is a copy."""
        if slot.spec.key in self.copies:
            return
        for level in self.levels:
            if level.offer(slot):
                self.work.notify_all()

    def condemn(self, slot: Slot) -> None:
        """Its bytes are damaged: count that, and let nobody find it again. The lock is held."""
        self.counters.corrupt += 1
        if slot.published:
            self.withdraw(slot)

    def withdraw(self, slot: Slot, evicted: bool = False) -> None:
        """Out of sight; its bytes go when nobody holds them."""
        for level in self.levels:
            if level.withdraw(slot.spec.key, evicted):
                self.work.notify_all()
        self.dram_shelf.remove(slot.spec.key, evicted)
        self.copies.discard(slot.spec.key)
        if self.ahead.has(slot.spec.key.digest):
            self.ahead.pop(slot.spec.key.digest)
            self.counters.prefetch_unused += 1
        self.dram.withdraw(slot)

    def touch(self, leaf_first: Sequence[SegmentKey]) -> None:
        """A use of each, in every tier that has it."""
        slow = (shelf for level in self.levels for shelf in level.shelves)
        for shelf in (self.dram_shelf, *slow):
            shelf.touch(leaf_first)
        self.copies.touch(leaf_first)

    def note_active(self, tenants: Collection[bytes]) -> None:
        """They use the store: from now on they have their share of every tier."""
        for shares in (self.dram.shares, *(level.shares for level in self.levels)):
            for tenant in tenants:
                shares.use(tenant)

    def may_have(self, level: Level, spec: SegmentSpec) -> bool:
        """A tier that nodes share is asked by the owner for what it never showed; others ask the
        owner."""
        asks = level.tier.exclusive or self.owns((spec.key,))[0]
        return level.may_have(spec) and (asks or spec.key in level)

    def note(self, path: Sequence[SegmentSpec]) -> None:
        """What follows a deleted passage is deleted too: a path says what does."""
        for spec in path if self.removing else ():
            self.is_being_removed(spec)
        for level in self.levels:
            if level.tombstones:
                for spec in path:
                    level.tombstones.dooms(spec)

    def stored_in(self, key: SegmentKey) -> Level | None:
        """The fastest slow tier that is known to have it."""
        return next((level for level in self.levels if key in level), None)

    def end_ticket(self, ticket: OpenTicket) -> None:
        """Nothing comes of it, and nobody writes into its extent any more."""
        self.give_back(ticket)
        self.counters.aborts += 1
        self.changed.notify_all()

    def give_back(self, ticket: OpenTicket) -> None:
        """As if it had never been opened: nobody was told of it."""
        self.claims.detach(ticket)
        self.claims.land(ticket)
        self.dram.abort(ticket.extent)

    def end_lease(self, lease: Lease) -> None:
        """A small one: see `kvstore.releasing`."""
        for ticket_id in list(lease.tickets):
            if (ticket := self.claims.find(ticket_id, lease.holder)) is not None:
                self.end_ticket(ticket)
        self.leases.close(lease)
        self.bound_copies()

    def next_use(self) -> dict[SegmentKey, int]:
        """Of what the next `lookahead_requests` queued requests need."""
        return self.window.next_use(self.lookahead_requests)

    def _level(self, tier: SlowTier) -> Level:
        config = self._config
        admission: Admission = config.ssd_admission if tier.name == "ssd" else "all"
        policy = create_policy(config.policy, self.profile)
        return Level(tier, policy, config.write_queue, admission, config.tenant_share)

    def _evict(self, key: SegmentKey) -> None:
        slot = self.dram.find(key)
        assert slot is not None, f"{key} is on the shelf, not in the arena"
        self.withdraw(slot, evicted=True)


def _profile(config: StoreConfig) -> PrefillProfile:
    if not config.prefill_profile:
        return PrefillProfile.default()
    return PrefillProfile.read(Path(config.prefill_profile).expanduser())


def _slow_tiers(config: StoreConfig, node: str, files: Files) -> list[SlowTier]:
    tiers = [create_ssd_tier(config, files)] if config.ssd_dir else []
    try:
        return tiers + ([create_remote_tier(config, node)] if config.remote else [])
    except BaseException:
        for tier in tiers:
            tier.close()
        raise
