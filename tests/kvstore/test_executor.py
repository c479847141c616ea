import subprocess
import sys
import threading
from concurrent.futures import CancelledError

import pytest

from kvstore.executor import DaemonExecutor
from tests.tracked import ROOT

HANGS = """
import threading
from kvstore.executor import DaemonExecutor
pool, begun = DaemonExecutor(1, "hangs"), threading.Event()
pool.submit(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
"""


def test_calls_are_made_in_order_and_answer_their_futures() -> None:
    pool, seen = DaemonExecutor(1, "one"), list[int]()
    futures = [pool.submit(seen.append, i) for i in range(20)]
    assert [future.result(10) for future in futures] == [None] * 20 and seen == list(range(20))
    assert list(pool.map(lambda n: n * n, [1, 2, 3])) == [1, 4, 9]
    pool.shutdown()


def test_an_exception_is_its_callers_and_the_thread_goes_on() -> None:
    pool = DaemonExecutor(1, "one")
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(10)
    assert pool.submit(lambda: 7).result(10) == 7
    pool.shutdown()


def test_a_shutdown_cancels_what_waits_and_takes_no_more() -> None:
    pool, gate, begun = DaemonExecutor(1, "one"), threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return gate.wait(10)

    running = pool.submit(hold)
    assert begun.wait(10)
    waiting = pool.submit(lambda: 1)
    pool.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        waiting.result(10)
    with pytest.raises(RuntimeError):
        pool.submit(lambda: 1)
    gate.set()
    assert running.result(10) is True
    pool.shutdown()


def test_a_call_that_hangs_does_not_keep_the_process_alive() -> None:
    subprocess.run([sys.executable, "-c", HANGS], cwd=ROOT, timeout=20, check=True)
