"""Pauses of Python's garbage collector, in a process that holds millions of records."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal


def freeze_survivors() -> None:
    """From now on a full collection looks at what is new since the one before.

    The records of a store have no cycles: the collector finds nothing among them, and looking
    through all of them stops every thread, whatever lock it holds, for seconds. What survives a
    full collection is left to reference counting. Idempotent.
    """
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


@contextmanager
def put_off() -> Iterator[None]:
    """No collection begins meanwhile, but just behind it. It looks at each large list and dict that
    is new, at 50 ms for a few hundred thousand entries, whoever's they are."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _freeze(phase: Literal["start", "stop"], info: dict[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
