"""Pauses of the garbage collector and of malloc, in a process that holds millions of records."""

import ctypes
import gc
import threading
from typing import Literal

_M_MXFAST = 1
"""glibc's option of how large a small block is."""


def freeze_survivors() -> None:
    """From now on a full collection looks at what is new since the one before.

    The records of a store have no cycles: the collector finds nothing among them, and looking
    through all of them stops every thread, whatever lock it holds, for seconds. What survives a
    full collection is left to reference counting. Idempotent.
    """
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


def join_freed_blocks() -> None:
    """From now on glibc joins a small block with its free neighbours when it is freed.

    It would put them off until somebody asks for a kilobyte: then it joined all of them, at 50 ns
    each, while that thread held whatever lock it has. Other C libraries do not. Idempotent.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MXFAST, 0)


def collect_all() -> None:
    """What is in cycles goes now, among what survived former collections too."""
    gc.unfreeze()
    gc.collect()


class uninterrupted:
    """The lock is held, and no collection begins meanwhile, but just behind it. It looks at each
    large list and dict that is new, at 50 ms for a few hundred thousand entries, whoever's they
    are.

    Collections are switched off and on again with the lock held: what one thread switches on is not
    to hit the one that waited for it. A class, because `contextmanager` costs more than a small
    turn.
    """

    __slots__ = ("_lock", "_was_enabled")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_enabled:
            gc.enable()
        self._lock.release()  # nothing is allocated before it


def _freeze(phase: Literal["start", "stop"], info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
