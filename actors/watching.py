"""What a shard sees to once in a while: guests that have ended, and uses that owners do not see."""

from collections import defaultdict

from actors.guests import Guests
from actors.peers import Peers
from actors.stays import Guest
from kvstore.membership import Membership
from kvstore.store import KVStore
from kvstore.types import SegmentKey

_LIVING_TIMEOUT_S = 2.0


class Watch:
    """One thread, every `interval_s`."""

    def __init__(
        self, node_id: str, store: KVStore, guests: Guests, peers: Peers, interval_s: float
    ) -> None:
        self._node_id, self._store, self._guests, self._peers = node_id, store, guests, peers
        self._membership = Membership(0, ())
        steps = guests.expire, self._report_uses, self._expire_the_dead
        self._thread = store.threads.every(interval_s, "shard-watch", *steps)

    def follow(self, membership: Membership) -> None:
        self._membership = membership

    def close(self) -> None:
        self._thread.stop()

    def _report_uses(self) -> None:
        """Owners would evict first what is so popular that every node has a copy of it."""
        used, told = self._store.take_uses_of_copies(), defaultdict[str, list[SegmentKey]](list)
        if not used:
            return
        every = self._membership.all_owners([key.placement for key in used])
        for key, owners in zip(used, every, strict=True):
            for node in owners:
                told[node].append(key)
        told.pop(self._node_id, None)
        self._peers.start({node: (keys,) for node, keys in told.items()}, "note_uses")

    def _expire_the_dead(self) -> None:
        """Guests that ended claim nothing any more; a shard that cannot say so does not mean it."""
        claimants = self._guests.claimants()
        asked = {node: (holders,) for node, holders in claimants.items()}
        living = self._peers.gather(self._peers.start(asked, "living"), _LIVING_TIMEOUT_S)
        members = self._membership.node_ids
        living |= {node: set() for node in claimants if members and node not in members}
        self._guests.expire(
            {Guest(n, holder) for n in living for holder in claimants[n] - living[n]}
        )
