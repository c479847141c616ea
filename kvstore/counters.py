"""What a store has done since its start."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the start."""

    misses: int = 0
    waits: int = 0
    commits: int = 0
    aborts: int = 0
    no_room: int = 0
    corrupt: int = 0
    unauthenticated: int = 0
    prefetch_reads: int = 0
    prefetch_used: int = 0
    prefetch_late: int = 0
    prefetch_unused: int = 0
