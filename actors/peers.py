"""Calls from one node to the shards of others: together, under a deadline, around what is gone."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from actors.shard_names import NAMESPACE, shard_name
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

    def call(self, node_id: str, method: str, *args: Any) -> ObjectRef | None:
        """None where the shard cannot be reached just now."""
        if time.monotonic() < self._again_at.get(node_id, 0.0):
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
