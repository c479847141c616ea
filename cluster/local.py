"""A Ray cluster on this machine for as long as a `with` block runs; nothing of it stays."""

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import ray
from ray import serve
from ray._private import worker

from actors.shard_names import NAMESPACE
from cluster.config import HyperRagConfig
from cluster.interrupts import Hurry, Interrupts
from cluster.preflight import check_data_dir, check_port, data_dir_lock
from cluster.running import end_actors
from cluster.sweep import RUN_ID, adopt_orphans, sweep
from kvstore.arena_file import sweep_arenas

OBJECT_STORE_BYTES = 256 * 2**20  # 256 MiB: KV travels through the arena, not through Ray
SERVE_STOP_S = 20.0
ACTORS_STOP_S = 15.0
DISCONNECT_S = 10.0

_log = logging.getLogger("hyperrag.local")


class LocalCluster:
    """Starts Ray, and ends it however the block ends: normally, by an exception, by a signal at
    any moment. Enter it in the main thread: Ray's processes end with the thread that made them.

    `__enter__` raises PortTakenError, DataDirError or ConfigError before anything is started.
    """

    def __init__(self, config: HyperRagConfig) -> None:
        self._config = config
        self._run_id = uuid4().hex
        self._started = time.time()
        self._interrupts = Interrupts()
        self._held = ExitStack()
        self._excepthook = sys.excepthook
        self._joining = False

    def __enter__(self) -> Self:
        check_data_dir(Path(self._config.data_dir))
        self._held.enter_context(data_dir_lock(self._config))
        self._interrupts.install()
        try:
            check_port(self._config.ingress.host, self._config.ingress.port)
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        adopt_orphans()
        worker._worker_logs_enabled = True
        atexit.register(self._sweep)  # a signal in the instant before `_stop` takes over
        os.environ[RUN_ID] = self._run_id
        # Idle threads of a CPU engine sleep. Spinning, they keep the other engine, the proxies and
        # the store off the cores: with two busy processes a pass took twelve times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine
        # Serve kills a proxy that is not ready after three times so long, by default 5 s: too short
        # where it starts beside two models that load.
        os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "30")
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._joining = True
        ray.init(
            address="local",
            namespace=NAMESPACE,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
        )
        self._joining = False
        self._interrupts.install()  # Ray has set a SIGTERM handler of its own
        self._interrupts.raise_if_lost()  # in a hook of the many forks above

    def _stop(self) -> None:
        try:
            try:
                self._interrupts.stopping()
                _stop_gracefully()
            finally:
                self._interrupts.sweeping()
        except Hurry:
            pass
        finally:
            # Before its processes end: a driver that is still connected waits for them at exit.
            _limited(ray.shutdown, DISCONNECT_S)
            if self._joining and (status := self._interrupts.status):
                atexit.register(_leave, status)
            self._sweep()
            sys.excepthook = self._excepthook  # Ray's tells the cluster about the exception
            atexit.unregister(self._sweep)
            self._held.close()
            self._interrupts.restore()

    def _sweep(self) -> None:
        sweep(self._run_id, self._started)
        sweep_arenas(self._dram_dir)  # a shard that was killed could not
        if os.environ.get(RUN_ID) == self._run_id:
            del os.environ[RUN_ID]

    @property
    def _dram_dir(self) -> Path:
        return Path(self._config.store.dram_dir).expanduser()


def _leave(status: int) -> None:
    """End the process without the exit handlers of libraries. A signal during `ray.init` can leave
    a driver in Ray's library that Python has no handle of: `ray.shutdown` passes it over, and its
    destructor at exit takes apart what its own threads still use, which is a crash now and then.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _stop_gracefully() -> None:
    if not ray.is_initialized():
        return
    worker._worker_logs_enabled = False  # Ray would report on the console how its actors end
    for step, limit_s in ((serve.shutdown, SERVE_STOP_S), (end_actors, ACTORS_STOP_S)):
        _limited(step, limit_s)


def _limited(step: Callable[[], None], limit_s: float) -> None:
    """Wait for it no longer than `limit_s`; what is left of it the sweep ends."""

    def logged() -> None:
        try:
            step()
        except Exception:  # the cluster may be half dead: stopping goes on regardless
            _log.warning("stopping: %s failed", step.__name__, exc_info=True)

    thread = threading.Thread(target=logged, daemon=True)
    thread.start()
    thread.join(limit_s)
