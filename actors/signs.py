"""Telling a shard that is slow from one that hangs: it is asked for a report, which needs no lock
of its store and has threads of its own."""

import time

import ray
from ray import ObjectRef

SIGN_S = 1.0
"""A shard that has not reported by then hangs."""
_LOST_S = 10.0
"""An answer that has not come by then may be lost: the shard is asked something again."""


class Hanging:
    """A shard that does not report. It is left alone until it does, or is gone."""

    def __init__(self, report: ObjectRef) -> None:
        self._report = report
        self._until = time.monotonic() + _LOST_S

    @property
    def lasts(self) -> bool:
        if time.monotonic() >= self._until:
            return False
        return not ray.wait([self._report], timeout=0, fetch_local=False)[0]
