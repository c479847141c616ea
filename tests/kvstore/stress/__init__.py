"""Many processes on one small store, some of them killed, every bound watched."""

from tests.kvstore.stress.stressing import StressResult, run

__all__ = ["StressResult", "run"]
