"""The node's compute slot: one engine at a time uses all cores of a CPU node.

Two engines that each run with every core take more than twice as long, so they take turns. A lock
file is the slot: the kernel frees it when its holder dies.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from actors.engine.config import EngineConfig
from actors.engine.cpus import usable_cpus
from actors.errors import UnavailableError
from kvstore.locks import open_lock_file

_log = logging.getLogger(__name__)

_POLL_S = 0.0005


def use_threads(torch_threads: int) -> int:
    """Set the threads of torch in this process; 0 takes every CPU it may use (`usable_cpus`)."""
    cpus, affinity = usable_cpus(), len(os.sched_getaffinity(0))
    threads = torch_threads or cpus
    torch.set_num_threads(threads)
    _log.info("torch computes with %d threads (affinity %d, usable %d)", threads, affinity, cpus)
    return threads


class ComputeSlot:
    """Fair between processes: whoever waits holds the gate, so the last holder cannot pass it.

    `flock` alone lets the process that just released take the slot again before a waiter wakes.
    """

    def __init__(self, config: EngineConfig, run_dir: str) -> None:
        self._wait_s = config.compute_wait_s
        self._mutex = threading.Lock()
        self._holder: int | None = None
        """Thread of this process that computes."""
        self._files: tuple[int, int] | None = None
        if config.compute_slot:
            folder = Path(run_dir)
            folder.mkdir(parents=True, exist_ok=True)
            gate, slot = (folder / name for name in ("compute.gate", "compute.slot"))
            self._files = open_lock_file(gate), open_lock_file(slot)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Compute inside. Whoever holds it may hold it again: a prefill keeps it for the tokens of
        others between its passes. Raises UnavailableError when it stays taken for compute_wait_s.
        """
        if self._files is None or self._holder == threading.get_ident():
            yield
            return
        gate, slot = self._files
        deadline = time.monotonic() + self._wait_s
        if not self._mutex.acquire(timeout=self._wait_s):
            raise UnavailableError("compute slot: another thread of this process holds it")
        try:
            self._take(gate, deadline)
            try:
                self._take(slot, deadline)
            finally:
                fcntl.flock(gate, fcntl.LOCK_UN)
            self._holder = threading.get_ident()
            try:
                yield
            finally:
                self._holder = None
                fcntl.flock(slot, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def _take(self, file: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"compute slot: not free within engine.compute_wait_s = {self._wait_s:g} s"
                    ) from None
                time.sleep(_POLL_S)

    def close(self) -> None:
        if self._files is not None:
            for file in self._files:
                os.close(file)
            self._files = None
