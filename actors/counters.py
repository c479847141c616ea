"""What reuse did in one replica since it started."""

import threading

from actors.messages import CacheReport


class ReuseCounters:
    """Thread-safe totals over the requests of a replica."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = CacheReport()
        self._num_requests = 0

    def count(self, report: CacheReport) -> None:
        with self._lock:
            self._num_requests += 1
            self._total += report

    def status(self) -> dict[str, int]:
        with self._lock:
            total, num_requests = self._total, self._num_requests
        return {
            "requests": num_requests,
            "segment_hits": total.hits,
            "device_hits": total.device_hits,
            "dram_hits": total.dram_hits,
            "ssd_hits": total.ssd_hits,
            "peer_hits": total.peer_hits,
            "remote_hits": total.remote_hits,
            "segments_computed": total.computed,
            "tokens_reused": total.tokens_reused,
            "tokens_computed": total.tokens_computed,
            "bytes_moved": total.bytes_moved,
        }
