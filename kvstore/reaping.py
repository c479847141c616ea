"""What ends by itself: processes, silent computations, announcements, waits for reads that hang."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from kvstore.books import Books
from kvstore.loads import Loads
from kvstore.releasing import end_leases
from kvstore.singleflight import OpenTicket
from kvstore.supervised import each
from kvstore.turns import in_turns
from kvstore.types import HolderId


def reaping(books: Books, loads: Loads) -> Sequence[Callable[[], None]]:
    """What collects it, each apart from the failures of others."""

    def end_holders() -> None:
        with books.lock:
            ended = books.holders.ended()
        each(ended, partial(end_holder, books))

    def expire(ticket: OpenTicket) -> None:
        with books.lock:
            books.claims.expire(ticket)

    def expire_claims() -> None:
        with books.lock:
            flying = books.claims.flying()
        silent = [t for t in flying if t.lease.claims_end_at <= time.monotonic()]
        try:
            each(silent, expire)
        finally:
            with books.lock:
                books.changed.notify_all()

    def expire_announcements() -> None:
        in_turns(books.lock, iter(books.window.expire_one, False), bool)

    def give_up_hanging() -> None:
        with books.lock:
            loads.give_up_hanging()

    return (
        end_holders,
        books.holders.sweep,
        expire_claims,
        expire_announcements,
        give_up_hanging,
        books.bound_copies_in_turns,
    )


def end_holder(books: Books, holder: HolderId) -> None:
    """Its leases in turns, then what is known of it. Nothing once the store is closed."""
    try:
        with books.lock:
            leases = [] if books.closed else books.leases.of(holder)
        end_leases(books, leases)
    finally:
        with books.lock:
            if not books.closed:
                for lease in books.leases.of(holder):  # opened meanwhile
                    books.end_lease(lease)
                books.claims.unbound(holder)
                books.holders.forget(holder)
