"""Waiting for what another thread does."""

import time
from collections.abc import Callable

_LOOK_S = 0.002


def eventually(condition: Callable[[], bool], within_s: float) -> bool:
    give_up = time.monotonic() + within_s
    while not condition() and time.monotonic() < give_up:
        time.sleep(_LOOK_S)
    return condition()
