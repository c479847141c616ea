"""Nodes that were away are told what was removed meanwhile, before anybody uses what they have."""

from collections.abc import Collection, Mapping

from actors.peers import Peers
from actors.removal_log import Kept, Removals, Removed

_KNOWN_TIMEOUT_S = 3.0
_LEARN_TIMEOUT_S = 3.0
"""Who needs longer goes on by itself, and is asked again."""
_SAVED_MS = 120_000
"""What a restarted node says of the time until which it was told is at most so far behind."""


class Telling:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def tell(
        self, untold: Collection[str], told: Collection[str], awaited: Collection[str]
    ) -> set[str]:
        """Of the untold nodes those that have made all removals now. What any of all these nodes
        knows all others learn. Nobody is told while one of those who know of everything, or of
        the `awaited`, does not answer: it may be the only one that knows of a removal."""
        asked = dict.fromkeys([*told, *untold], ())
        answers: dict[str, Kept | None] = self._peers.gather(
            self._peers.start(asked, "removals"), _KNOWN_TIMEOUT_S
        )
        logs = {node: log for node, log in answers.items() if log is not None}
        if not logs or not logs.keys() >= {*told, *awaited}:
            return set()
        entries = {e.removal: e for log in logs.values() for e in log.removals.entries}
        whole = Removals(_reach(logs, told), tuple(entries.values()))
        lacking = {node for node in logs if node in untold or _lacks(logs[node], entries)}
        learned: dict[str, bool] = self._peers.gather(
            self._peers.start(dict.fromkeys(lacking, (whole,)), "learn_removals"), _LEARN_TIMEOUT_S
        )
        return {node for node, is_done in learned.items() if is_done and node in untold}


def _reach(logs: Mapping[str, Kept], told: Collection[str]) -> int:
    """Since when all removals are in these logs: those of the nodes that know of everything, or
    where all begin anew of those that were members last."""
    if told:
        return min(logs[node].removals.since_ms for node in told)
    last_ms = max(log.told_ms for log in logs.values()) - _SAVED_MS
    lasting = [log.removals.since_ms for log in logs.values() if log.told_ms >= last_ms]
    return max(1, min(last_ms, *lasting))


def _lacks(log: Kept, entries: Mapping[bytes, Removed]) -> bool:
    return not entries.keys() <= {entry.removal for entry in log.removals.entries}
