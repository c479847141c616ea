"""What a shard says of itself to the directory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a directory asks a shard: how big it is, and how far it has followed."""

    epoch: int
    done_epoch: int
    capacity_bytes: int
    moved_bytes: int
    moved_segments: int
    guests: int
    sent_bytes: int
    """Of KV, to other nodes, since the shard began."""
    received_bytes: int
    """Of KV that other nodes gave it to keep."""
    waiting_segments: int
    """That the nodes which own them now have not confirmed yet: the change goes on."""
    waiting_for: dict[str, int]
    """The same, by the name of the node."""
    unplaced_segments: int
    """That their owners did not take: they stay here until the next change."""
    is_told: bool
    """Of all that was removed elsewhere, as far as the others know."""
    threads_gone: tuple[str, ...]
    """Background threads that do not run any more: the shard is to be restarted."""
