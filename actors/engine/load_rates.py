"""How fast KV comes from each tier here: what loads have shown, from an expectation on."""

import threading
from collections.abc import Mapping
from typing import get_args

from kvstore.types import TierName

EXPECTED: dict[TierName, float] = {
    "device": 1e11, "dram": 4e9, "peer": 5e8, "ssd": 1e9, "remote": 1e8,
}  # fmt: skip
"""Bytes per second, until the first load."""
TIERS: tuple[TierName, ...] = get_args(TierName)
_SMOOTHING = 0.2
"""Weight of the latest load."""
_MIN_BYTES = 2**20
"""What less takes says how long a call takes, and nothing of the tier."""
_FASTEST = 1e12


class LoadRates:
    """Bytes per second by tier, calls to the store included. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rates = dict(EXPECTED)

    def seconds(self, nbytes: Mapping[TierName, int]) -> float:
        """What loading these bytes, by tier, is expected to take, one tier after the other."""
        with self._lock:
            return self._seconds(nbytes)

    def learn(self, nbytes: Mapping[TierName, int], seconds: float) -> None:
        """Loading these bytes took so long. Tiers that were read together share the surprise."""
        if seconds <= 0 or sum(nbytes.values()) < _MIN_BYTES:
            return
        with self._lock:
            surprise = seconds / self._seconds(nbytes)
            for tier in (tier for tier, size in nbytes.items() if size):
                slower = 1 + _SMOOTHING * (surprise - 1)
                self._rates[tier] = min(_FASTEST, self._rates[tier] / slower)

    def rates(self) -> dict[TierName, float]:
        with self._lock:
            return dict(self._rates)

    def _seconds(self, nbytes: Mapping[TierName, int]) -> float:
        return sum(size / self._rates[tier] for tier, size in nbytes.items())
