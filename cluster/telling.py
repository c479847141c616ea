"""Nodes that were away are told what was removed meanwhile, before anybody uses what they have."""

from collections.abc import Collection

from actors.peers import Peers
from actors.removal_log import Removals, Removed

_KNOWN_TIMEOUT_S = 5.0
_LEARN_TIMEOUT_S = 5.0
"""Who needs longer goes on by itself, and is asked again."""


class Telling:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def tell(self, untold: Collection[str], told: Collection[str]) -> set[str]:
        """Of the untold nodes those that have made all removals now. What any of all these nodes
        knows all others learn. Nobody is told while one of those who know of everything does not
        answer: it may be the only one that knows of a removal."""
        asked = dict.fromkeys([*told, *untold], ())
        logs: dict[str, Removals] = self._peers.gather(
            self._peers.start(asked, "removals"), _KNOWN_TIMEOUT_S
        )
        if not logs.keys() >= set(told):
            return set()
        entries = {entry.removal: entry for log in logs.values() for entry in log.entries}
        since_ms = min((logs[node].since_ms for node in told), default=0)
        whole = Removals(since_ms, tuple(entries.values()))
        lacking = {node for node in logs if node in untold or _lacks(logs[node], entries)}
        arguments = dict.fromkeys(lacking, (whole, bool(told)))
        learned: dict[str, bool] = self._peers.gather(
            self._peers.start(arguments, "learn_removals"), _LEARN_TIMEOUT_S
        )
        return {node for node, is_done in learned.items() if is_done and node in untold}


def _lacks(log: Removals, entries: dict[bytes, Removed]) -> bool:
    return not entries.keys() <= {entry.removal for entry in log.entries}
