"""Shards are told the membership, and say how things stand: one call to each at a time, so that a
shard that hangs holds up no other."""

import time
from collections.abc import Collection

from actors.peers import Calls, Peers
from actors.shard_report import ShardReport
from kvstore.membership import Membership

_PATIENCE_S = 1.0
"""How long one round waits; who needs longer is heard in a later one."""
_ANSWER_S = 10.0
"""Who has not answered by then is asked again."""


class Following:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._calls: Calls = {}
        self._until: dict[str, float] = {}

    def tell(self, nodes: Collection[str], membership: Membership) -> dict[str, ShardReport]:
        """By node, what was answered since the last round."""
        now = time.monotonic()
        for node in [n for n in self._calls if n not in nodes or now > self._until[n]]:
            del self._calls[node]
        asked = dict.fromkeys(set(nodes) - self._calls.keys(), (membership,))
        self._until = {n: t for n, t in self._until.items() if n in self._calls}
        self._until |= dict.fromkeys(asked, now + _ANSWER_S)
        self._calls |= self._peers.start(asked, "follow")
        return self._peers.take(self._calls, _PATIENCE_S)
