"""What a store has, and has done since its start, at one moment."""

from dataclasses import asdict

from kvstore.books import Books
from kvstore.types import StoreStats, TierStats


def stats(books: Books) -> StoreStats:
    """Called with the lock held."""
    slow = {level.name: level.stats() for level in books.levels}
    none = TierStats(0, 0, 0, 0, 0)
    shelf = books.dram_shelf
    return StoreStats(
        dram=TierStats(
            books.dram.capacity_bytes,
            books.dram.used_bytes,
            len(shelf),
            shelf.hits,
            shelf.evictions,
            tenants=books.dram.shares.largest(),
        ),
        ssd=slow.get("ssd", none),
        remote=slow.get("remote", none),
        leases=len(books.leases),
        open_tickets=len(books.claims),
        copies_bytes=books.copies.used_bytes,
        threads=books.threads.stats(),
        **asdict(books.counters),
    )


def capacity_bytes(books: Books) -> int:
    """Of DRAM and of the slow tiers that are this node's own. Takes no lock."""
    own = (level.tier for level in books.levels if level.tier.exclusive)
    return books.dram.capacity_bytes + sum(tier.capacity_bytes for tier in own)
