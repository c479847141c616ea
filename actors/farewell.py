"""What a replica does when Serve stops it, after its last request."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from ray import serve
from ray.serve.exceptions import RayServeException

from actors.errors import ActorError

HAND_OVER_S = 8.0
"""Less than Serve's grace period: what is not with the store by then is computed again."""

_log = logging.getLogger(__name__)


def farewell(
    run: Callable[[Callable[[], int]], "Future[int]"],
    hand_over: Callable[[float], int],
    flush: Callable[[float], bool],
) -> None:
    """Hot segments go to the store (`hand_over`, by `run` on the engine's thread), and what was
    computed for other nodes to them (`flush`). Both are told how many seconds they have.

    Of no effect outside of a replica: Python calls `__del__` there too.
    """
    try:
        serve.get_replica_context()
    except RayServeException:
        return
    try:
        given = run(lambda: hand_over(HAND_OVER_S)).result(HAND_OVER_S)
        flush(HAND_OVER_S)
        _log.info("%d segments handed to the store", given)
    except (ActorError, FutureTimeout) as error:
        _log.warning("segments not handed over: %r", error)
