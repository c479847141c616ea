"""The way from a process to its node's shard, which survives the shard's death.

A shard that gives nothing for two seconds is asked for a report (`signs.py`). Where that does not
come either it hangs: who waits for it is told at once, and so is who asks before it has reported.

Ray restarts a shard that was killed, behind the same handle. A shard whose constructor raised is
dead for good, and so is its handle: the memory was not there yet, say. Then the shard is found
anew by its name, and started where it does not run. A start can take half a minute, and nobody
waits for it: until the new shard answers, calls fail at once and their callers compute.
"""

import logging
import threading
import time
from typing import Any

import ray
from ray import ObjectRef
from ray.exceptions import (
    ActorDiedError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from actors.shard_start import ensure_shard, start_shard
from actors.signs import SIGN_S, Hanging
from kvstore.config import StoreConfig
from kvstore.errors import DeadlineError, KVStoreError, StoreUnavailableError

logger = logging.getLogger(__name__)

_PATIENCE_S = 2 * SIGN_S
"""Longer than with another node's shard: without its own an engine has no store."""
_PAUSE_S = 5.0
"""Between two starts of which the first failed."""


class ShardLink:
    """Thread-safe."""

    def __init__(self, config: StoreConfig, namespace: str) -> None:
        """Starts the node's shard if there is none; raises StoreConfigError when it cannot."""
        self._config, self._namespace = config, namespace
        self._node_id = ray.get_runtime_context().get_node_id()
        self._handle = ensure_shard(config, namespace)
        self._lock = threading.Lock()
        self._is_dead = False
        self._hanging: Hanging | None = None
        self._successor: tuple[Any, ObjectRef] | None = None  # and its first answer
        self._again_at = 0.0

    @property
    def handle(self) -> Any:
        """The last shard that answered: calls to one that is dead fail at once."""
        return self._handle

    def living(self) -> Any:
        """Handle of a shard that is not known to be dead, or to hang; a dead one is started anew.
        Raises StoreUnavailableError until that one answers."""
        with self._lock:
            if self._is_dead:
                self._succeed()
            if self._hangs():
                raise StoreUnavailableError("the store's actor hangs")
            return self._handle

    def result(self, handle: Any, call: ObjectRef, timeout_s: float) -> Any:
        """The value of a call of this handle; what Ray wraps or raises becomes the store's own
        errors."""
        try:
            return self._await(handle, call, timeout_s)
        except GetTimeoutError as error:
            raise DeadlineError(f"the store did not answer in {timeout_s} s, or hangs") from error
        except RayTaskError as error:
            if isinstance(error.cause, (KVStoreError, ValueError)):
                raise error.cause from None
            raise
        except RayActorError as error:
            if isinstance(error, ActorDiedError):
                self._lost(handle)
            raise StoreUnavailableError(
                f"the store's actor is gone or restarting: {error}"
            ) from error
        except RayError as error:
            raise StoreUnavailableError(f"the store cannot be reached: {error}") from error

    def _await(self, handle: Any, call: ObjectRef, timeout_s: float) -> Any:
        """As long as the shard reports meanwhile. Raises GetTimeoutError."""
        give_up = time.monotonic() + timeout_s
        while True:
            left = max(0.0, give_up - time.monotonic())
            with self._lock:
                patience_s = 0.0 if self._hangs() else min(_PATIENCE_S, left)
            try:
                return ray.get(call, timeout=patience_s)
            except GetTimeoutError:
                if patience_s < _PATIENCE_S:
                    raise
            report = handle.report.remote()
            if not ray.wait([call, report], timeout=_PATIENCE_S)[0]:
                with self._lock:
                    self._hanging = Hanging(report)  # and the caller is told

    def _hangs(self) -> bool:
        """Called with the lock held."""
        if self._hanging is not None and not self._hanging.lasts:
            self._hanging = None
        return self._hanging is not None

    def _lost(self, handle: Any) -> None:
        with self._lock:
            self._is_dead = self._is_dead or handle is self._handle

    def _succeed(self) -> None:
        handle, answer = self._successor or self._start()
        ready, _ = ray.wait([answer], timeout=0)
        if not ready:
            raise StoreUnavailableError("the store's actor is being started anew")
        self._successor = None
        try:
            ray.get(answer)
        except RayError as error:
            self._again_at = time.monotonic() + _PAUSE_S
            logger.warning("the shard of this node did not start anew: %s", error)
            raise StoreUnavailableError(f"the store's actor did not start: {error}") from error
        self._handle, self._is_dead = handle, False

    def _start(self) -> tuple[Any, ObjectRef]:
        if time.monotonic() < self._again_at:
            raise StoreUnavailableError("the store's actor did not start, and is left alone")
        handle = start_shard(self._config, self._node_id, self._namespace)
        self._successor = handle, handle.report.remote()
        return self._successor
