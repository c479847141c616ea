"""Threads of a shard, by what its calls have to do with each other."""

GROUPS = {
    "acquire": 16, "wait": 64, "guest_waits": 64, "fetches": 8, "transfers": 8, "moves": 4,
    "removals": 4, "upkeep": 4, "control": 4,
}  # fmt: skip
"""Threads of calls that may block, or take long, apart from the rest: neither a slow disk, nor many
waiters, nor an operator's `check` keep `commit` and `release` from running, or the shard from
saying that it lives; and other nodes' calls keep away from this node's. What exceeds them queues,
under its caller's deadline."""
WAITS_EACH = 16
"""Of a process of this node, and of another node. An engine needs one at a time."""
NUM_THREADS = 8
"""Of all other calls, which are short."""
