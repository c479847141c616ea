"""Calls from one node to the shards of others: together, under a deadline, around what is gone."""

import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from actors.shard_names import NAMESPACE, shard_name
from actors.signs import SIGN_S, Hanging
from kvstore.errors import DeadlineError, KVStoreError

logger = logging.getLogger(__name__)

PAUSE_S = 2.0
"""A shard that could not be reached is left alone for this long."""

Calls = dict[str, ObjectRef]
"""By node."""


class Peers:
    """Handles of other nodes' shards, by node. Not for an event loop. Thread-safe: any thread may
    lose a node while another calls it."""

    def __init__(self, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._handles: dict[str, Any] = {}
        self._again_at: dict[str, float] = {}
        self._hanging: dict[str, Hanging] = {}

    def call(self, node_id: str, method: str, *args: Any) -> ObjectRef | None:
        """None where the shard cannot be reached just now."""
        if time.monotonic() < self._again_at.get(node_id, 0.0) or self._hangs(node_id):
            return None
        try:
            handle = self._handles.get(node_id)
            if handle is None:
                handle = ray.get_actor(shard_name(node_id), namespace=self._namespace)
                self._handles[node_id] = handle
            ref: ObjectRef = getattr(handle, method).remote(*args)
        except (ValueError, RayError):  # no such actor, or not any more
            self.lost(node_id)
            return None
        return ref

    def hangs(self, node_id: str, report: ObjectRef) -> None:
        """It is left alone until it has reported."""
        logger.warning("the shard of node %s hangs", node_id)
        self._hanging[node_id] = Hanging(report)

    def start(self, node_ids: Mapping[str, tuple[Any, ...]], method: str) -> Calls:
        """The same method of each, with its own arguments; those that can be reached."""
        begun = {node: self.call(node, method, *args) for node, args in node_ids.items()}
        return {node: ref for node, ref in begun.items() if ref is not None}

    def gather(self, calls: Calls, timeout_s: float) -> dict[str, Any]:
        """What came in time and is no error, by node; who is gone is left alone for a while."""
        return self.take(dict(calls), timeout_s)

    def take(self, calls: Calls, timeout_s: float) -> dict[str, Any]:
        """The same, and the calls that have ended are taken out of `calls`."""
        if not calls:
            return {}
        ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout_s)
        arrived, found = set(ready), {}
        for node, ref in [item for item in calls.items() if item[1] in arrived]:
            del calls[node]
            try:
                found[node] = ray.get(ref, timeout=timeout_s)
            except RayTaskError as error:  # the boundary: another node's error is no answer
                if not isinstance(error.cause, KVStoreError):
                    logger.warning("the shard of node %s failed: %s", node, error)
            except RayError:
                self.lost(node)
        return found

    def await_all(self, calls: Calls, timeout_s: float) -> None:
        """Until each has been answered, or its node is gone. Raises DeadlineError when one has not
        been in time, or its node says so."""
        if not calls:
            return
        _, late = ray.wait(list(calls.values()), num_returns=len(calls), timeout=timeout_s)
        if late:
            raise DeadlineError(f"{len(late)} nodes did not answer in {timeout_s} s")
        for node, ref in calls.items():
            try:
                ray.get(ref, timeout=timeout_s)
            except RayTaskError as error:
                if isinstance(error.cause, DeadlineError):
                    raise error.cause from None
            except RayError:
                self.lost(node)

    def lost(self, node_id: str) -> None:
        self._handles.pop(node_id, None)
        self._again_at[node_id] = time.monotonic() + PAUSE_S

    def _hangs(self, node_id: str) -> bool:
        hanging = self._hanging.get(node_id)
        if hanging is not None and not hanging.lasts:
            self._hanging.pop(node_id, None)
            return False
        return hanging is not None


class Signs:
    """Signs of life of shards that are waited for. For one thread."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._calls: Calls = {}
        self._asked_at: dict[str, float] = {}

    def missing(self, nodes: Collection[str]) -> set[str]:
        """Those of the nodes that were asked `SIGN_S` ago and have not reported: they are left
        alone from now on. Those that have are asked again."""
        now = time.monotonic()
        self._peers.take(self._calls, 0.0)
        silent = {
            node for node in self._calls.keys() & set(nodes) if now - self._asked_at[node] >= SIGN_S
        }
        for node in silent:
            self._peers.hangs(node, self._calls.pop(node))
        news = dict.fromkeys(set(nodes) - self._calls.keys() - silent, ())
        self._asked_at |= dict.fromkeys(news, now)
        self._calls |= self._peers.start(news, "report")
        return silent
