"""`acquire`: match, pin, wait for what is being read, claim the rest; all of it under one lease, in
turns."""

import time
from collections.abc import Callable, Iterator, Sequence

from kvstore.books import Books
from kvstore.chains import taken_chains
from kvstore.config import VerifyDram
from kvstore.errors import StoreUnavailableError
from kvstore.leases import Lease
from kvstore.loads import Loads
from kvstore.matching import Matcher
from kvstore.releasing import end_leases, release
from kvstore.scrub import damage_of
from kvstore.tiers.dram import Slot
from kvstore.turns import in_turns
from kvstore.types import Acquired, HolderId, LeaseId, Path


class Acquisitions:
    def __init__(self, books: Books, loads: Loads, verify_dram: VerifyDram) -> None:
        self._books = books
        self._loads = loads
        self._verify_hits = verify_dram == "always"
        self.reason_to_withhold: Callable[[], str] = str
        """Why nothing that is here may be served just now; empty: it may."""

    def acquire(
        self,
        paths: Sequence[Path],
        holder: HolderId,
        give_up: float,
        streamed: bool,
        claim: bool,
    ) -> Acquired:
        """`give_up` is the monotonic time at which reads are left behind. Raises ValueError for
        paths that are not chains, StoreUnavailableError while everything is withheld."""
        paths = taken_chains(paths)
        self._require_served()
        acquired = self._acquire(paths, holder, give_up, streamed, claim)
        try:
            self._require_served()  # it may have waited for a read meanwhile
        except StoreUnavailableError:
            release(self._books, acquired.lease_id, holder)
            raise
        return acquired

    def _require_served(self) -> None:
        if reason := self.reason_to_withhold():
            raise StoreUnavailableError(reason)

    def _acquire(
        self,
        paths: Sequence[Path],
        holder: HolderId,
        give_up: float,
        streamed: bool,
        claim: bool,
    ) -> Acquired:
        books = self._books
        with books.lock:
            books.require_open()
            books.holders.ensure(holder)
            lease = books.leases.open(LeaseId(books.next_id()), holder)
        matcher = Matcher(books, self._loads, lease, paths, streamed)
        verified: set[Slot] = set()
        try:
            while matcher.answered is None:
                steps = self._steps(matcher, lease, give_up, claim, verified)
                in_turns(books.lock, self._while_open(lease, steps), bool)
                if matcher.pending:
                    self._await(matcher, lease, give_up)
                elif matcher.answered is None:
                    self._verify(lease, verified)
        except BaseException:
            end_leases(books, [lease])
            raise
        return matcher.answered

    def _steps(
        self, matcher: Matcher, lease: Lease, give_up: float, claim: bool, verified: set[Slot]
    ) -> Iterator[None]:
        """One look, and the answer where there is nothing left to read or to verify."""
        yield from matcher.settle()
        yield from matcher.look(may_read=time.monotonic() < give_up)
        if matcher.pending or (self._verify_hits and not lease.slots <= verified):
            return
        matcher.only_pinned = self._verify_hits
        yield from matcher.answer(claim)

    def _while_open(self, lease: Lease, steps: Iterator[None]) -> Iterator[None]:
        """Others may have had the lock between two steps."""
        self._require_open(lease)
        for _ in steps:
            yield
            self._require_open(lease)

    def _await(self, matcher: Matcher, lease: Lease, give_up: float) -> None:
        """Until none of the reads is needed, or no time is left."""
        books, needed = self._books, list(reversed(matcher.pending))

        def is_over() -> bool:
            while needed and not matcher.needs(needed[-1]):
                needed.pop()
            return books.closed or not lease.open or not needed

        with books.lock:
            books.changed.wait_for(is_over, max(0.0, give_up - time.monotonic()))

    def _verify(self, lease: Lease, verified: set[Slot]) -> None:
        """What is damaged goes out of sight. The lease pins the slots while they are read."""
        books = self._books
        with books.lock:
            slots = lease.slots - verified
        damaged = [slot for slot in slots if damage_of(books, slot)]
        verified |= slots

        def condemn(slot: Slot) -> None:
            self._require_open(lease)
            books.condemn(slot)

        in_turns(books.lock, damaged, condemn)

    def _require_open(self, lease: Lease) -> None:
        self._books.require_open()
        if not lease.open:
            raise StoreUnavailableError(f"holder {lease.holder} ended during the call")
