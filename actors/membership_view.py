"""The cluster's membership as one process knows it: the latest that the directory said."""

import threading
import time
from contextlib import suppress
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from actors.shard_names import DIRECTORY
from kvstore.errors import StoreUnavailableError
from kvstore.membership import Member, Membership

POLL_S = 1.0
_NEWS_WAIT_S = 0.2
_ASK_AGAIN_S = 0.1
_LOOK_AGAIN_S = 5.0
"""Where there is no directory, how often one is looked for."""
_ANSWER_S = 5.0
"""A question that has no answer by then is asked again."""


class MembershipView:
    """Asks now and then, beside the caller's work; only who has not asked for long waits a moment
    for the answer. A directory that failed to answer is looked for by its name again: another may
    be in its place. Without a directory the calling node is alone."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._node_id: str = ray.get_runtime_context().get_node_id()
        self._lock = threading.Lock()
        self._latest = Membership(0, (Member(self._node_id, self._node_id, 1),))
        self._directory: Any = None
        self._asked: ObjectRef | None = None
        self._asked_until = 0.0
        self._next_at = self._heard_at = 0.0

    @property
    def node_id(self) -> str:
        """The caller's own."""
        return self._node_id

    def current(self) -> Membership:
        with self._lock:
            self._take_answer()
            now = time.monotonic()
            if self._asked is not None and now >= self._asked_until:
                self._asked = self._directory = None
            if now >= self._next_at and self._asked is None:
                self._ask()
            if self._asked is not None and now - self._heard_at > 2 * POLL_S:
                ray.wait([self._asked], timeout=_NEWS_WAIT_S)
                self._take_answer()
                self._heard_at = time.monotonic()  # or it is gone: once is enough to wait for it
            return self._latest

    def settle(self, timeout_s: float) -> Membership:
        """Wait for the answer to one question asked from now on."""
        give_up = time.monotonic() + timeout_s
        with self._lock:
            self._ask()
            asked = self._asked
        if asked is not None:
            ray.wait([asked], timeout=max(0.0, give_up - time.monotonic()))
        return self.current()

    def sharers(self, give_up: float) -> frozenset[str]:
        """Ids of all nodes that may have anything, by an answer to a question asked from now on.
        Without a directory, those that are known.

        Raises StoreUnavailableError when there is no answer by then: nodes that this process has
        not heard of may have what it removes.
        """
        while True:
            try:
                directory = ray.get_actor(DIRECTORY, namespace=self._namespace)
            except ValueError:  # there is none
                return self.current().node_ids
            left = max(0.0, give_up - time.monotonic())
            with suppress(RayError):  # restarting, or silent
                answer: frozenset[str] | None = ray.get(directory.sharers.remote(), timeout=left)
                if answer is not None:
                    return answer
            if left <= _ASK_AGAIN_S:
                raise StoreUnavailableError("the directory does not say which nodes share it")
            time.sleep(_ASK_AGAIN_S)

    def _ask(self) -> None:
        try:
            if self._directory is None:
                self._directory = ray.get_actor(DIRECTORY, namespace=self._namespace)
            self._asked = self._directory.membership.remote(self._latest.epoch, self._node_id)
            now = time.monotonic()
            self._next_at, self._asked_until = now + POLL_S, now + _ANSWER_S
        except (ValueError, RayError):  # there is none
            self._directory, self._next_at = None, time.monotonic() + _LOOK_AGAIN_S

    def _take_answer(self) -> None:
        if self._asked is None or not ray.wait([self._asked], timeout=0)[0]:
            return
        asked, self._asked = self._asked, None
        self._heard_at = time.monotonic()
        try:
            membership: Membership = ray.get(asked, timeout=POLL_S)
        except RayError:  # restarting, or dead for good: what is known stands
            self._directory = None
            return
        if membership.epoch > self._latest.epoch:
            self._latest = membership
