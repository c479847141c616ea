"""What one replica has done and what waits for it, as the autoscaler asks for it.

Counters only grow: whoever reads them takes differences. A unit is a passage of the reranker, a
request of the generator.
"""

import threading
from dataclasses import dataclass

ARRIVED = "work_arrived"
COMPLETED = "work_completed"
BUSY_S = "work_busy_s"
WAITING = "work_waiting"


class WorkMeter:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = self._completed = self._begun = 0
        self._busy_s = 0.0

    def arrive(self, units: int) -> None:
        """Whether there is room for them or not."""
        with self._lock:
            self._arrived += units

    def begin(self, units: int) -> None:
        """They wait no longer: begun, refused or gone."""
        with self._lock:
            self._begun += units

    def complete(self, units: int) -> None:
        with self._lock:
            self._completed += units

    def work(self, seconds: float) -> None:
        """The engine was busy so long."""
        with self._lock:
            self._busy_s += seconds

    def stats(self) -> dict[str, int | float]:
        """In the form that Serve's `record_autoscaling_stats` asks for."""
        with self._lock:
            return {
                ARRIVED: self._arrived,
                COMPLETED: self._completed,
                BUSY_S: self._busy_s,
                WAITING: self._arrived - self._begun,
            }


@dataclass(slots=True)
class StepCost:
    """How the time of one decoding step depends on its batch: a + c x sequences, least squares.

    A replica with few sequences is as busy as a full one, and has room for more: its time counts as
    what the same sequences would take of full batches.
    """

    full: int
    """Sequences of a full batch."""
    _weight: float = 0.0
    _b: float = 0.0
    _bb: float = 0.0
    _s: float = 0.0
    _bs: float = 0.0

    def in_full_batches(self, sequences: int, seconds: float) -> float:
        """Learns from this step; the seconds that full batches would take for it."""
        keep = 0.999  # a thousand steps, so that load that changes is followed
        self._weight = keep * self._weight + 1
        self._b = keep * self._b + sequences
        self._bb = keep * self._bb + sequences * sequences
        self._s = keep * self._s + seconds
        self._bs = keep * self._bs + sequences * seconds
        spread = self._weight * self._bb - self._b**2
        if spread < 1e-3 * self._b**2:  # always the same batch: nothing to tell them apart by
            return seconds
        each = max(0.0, (self._weight * self._bs - self._b * self._s) / spread)
        fixed = max(0.0, (self._s - each * self._b) / self._weight)
        expected = fixed + each * sequences
        share = sequences * (fixed / self.full + each) / expected if expected else 1.0
        return seconds * min(1.0, share)
