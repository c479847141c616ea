"""One removal of passages, on every node of the cluster: those that are known, and those that come
meanwhile."""

import secrets
import time
from collections.abc import Callable, Collection

from actors.membership_view import MembershipView
from actors.peers import Calls, Peers
from kvstore.errors import RemovalError, StoreUnavailableError

_DIRECTORY_S = 5.0
"""One that restarts answers in less."""


class Removing:
    def __init__(
        self, peers: Peers, view: MembershipView, tags: Collection[bytes], timeout_s: float
    ) -> None:
        self._peers, self._view, self._tags = peers, view, list(tags)
        self._id = secrets.token_bytes(16)
        self._timeout_s = timeout_s
        self._asked = {view.node_id}
        self._removed: dict[str, int] = {}

    def run(self, remove_here: Callable[[bytes], int]) -> int:
        """How many segments went; this node and the others work at the same time, and `remove_here`
        gets the removal's id, which is the same on all. Raises
        RemovalError for nodes that did not say that they have done so, and where the directory
        does not say which nodes there are."""
        calls = self._start(self._view.current().node_ids)
        try:
            removed = remove_here(self._id)
        finally:
            self._removed |= self._peers.gather(calls, self._timeout_s)
            sharers = self._await_all()
        if failed := sorted((sharers & self._asked) - self._removed.keys() - {self._view.node_id}):
            raise RemovalError(f"the stores of nodes {', '.join(failed)}", "they report no success")
        return removed + sum(self._removed.values())

    def _await_all(self) -> frozenset[str]:
        """Ask whoever has come, until nobody has since those asked before had done it: who comes
        later is told by them. Returns who shares the store; another node is none while it is away,
        and is told when it is back."""
        while True:
            sharers = self._sharers()
            if sharers <= self._asked:
                return sharers
            calls = self._start(sharers)
            self._removed |= self._peers.gather(calls, self._timeout_s)

    def _start(self, nodes: Collection[str]) -> Calls:
        news = set(nodes) - self._asked
        self._asked |= news
        return self._peers.start(dict.fromkeys(news, (self._tags, self._id)), "remove_tags")

    def _sharers(self) -> frozenset[str]:
        try:
            return self._view.sharers(time.monotonic() + _DIRECTORY_S)
        except StoreUnavailableError as error:
            raise RemovalError("nodes that this one has not heard of", str(error)) from error
