"""`acquire`: match, pin, wait for what is being read, claim the rest; all of it under one lease."""

import time
from collections.abc import Callable, Sequence

from kvstore.books import Books
from kvstore.chains import require_chains
from kvstore.config import VerifyDram
from kvstore.errors import StoreUnavailableError
from kvstore.leases import Lease
from kvstore.loads import Loads
from kvstore.matching import Matcher
from kvstore.releasing import release
from kvstore.scrub import damage_of
from kvstore.tiers.dram import Slot
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
        require_chains(paths)
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
        while True:
            with books.lock:
                self._match(matcher, lease, give_up)
                unverified = lease.slots - verified if self._verify_hits else set()
                if not unverified:
                    return matcher.answer(claim)
            self._verify(unverified, lease)
            verified |= unverified

    def _match(self, matcher: Matcher, lease: Lease, give_up: float) -> None:
        """Until there is nothing left to read, or no time. Called with the lock held."""
        books = self._books
        self._require_open(lease)
        while pending := matcher.look(may_read=time.monotonic() < give_up):
            books.changed.wait_for(
                lambda: books.closed or not lease.open or not any(map(matcher.needs, pending)),
                max(0.0, give_up - time.monotonic()),
            )
            matcher.settle(pending)
            self._require_open(lease)

    def _verify(self, slots: set[Slot], lease: Lease) -> None:
        """What is damaged goes out of sight. The lease pins the slots while they are read."""
        books = self._books
        damaged = [slot for slot in slots if damage_of(books, slot)]
        with books.lock:
            for slot in damaged if lease.open else ():
                books.condemn(slot)

    def _require_open(self, lease: Lease) -> None:
        self._books.require_open()
        if not lease.open:
            raise StoreUnavailableError(f"holder {lease.holder} ended during the call")
