"""Which replicas a deployment has, as this process was last told by Serve.

Serve tells the router of every handle, in the process of who calls; the router tells it here, where
the caller finds it before a request is split. Shared by name: Serve copies a router's own module
into every process by value.
"""

import threading

_lock = threading.Lock()
_known: dict[str, tuple[str, ...]] = {}


def learn(deployment: str, replica_ids: tuple[str, ...]) -> None:
    with _lock:
        _known[deployment] = tuple(sorted(replica_ids))


def known(deployment: str) -> tuple[str, ...]:
    """Ids in order; none before the deployment was first called from this process."""
    with _lock:
        return _known.get(deployment, ())
