"""Which replica of a deployment this process is, and on which node."""

import os
from functools import lru_cache

import ray
from ray import serve
from ray.serve.exceptions import RayServeException

from actors.shard_names import node_name


def whereabouts() -> dict[str, str]:
    """`replica`: Serve's id, the process's number outside of Serve; `node`: its name, empty outside
    of Ray."""
    node = _name_of(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
    try:
        replica = str(serve.get_replica_context().replica_id.unique_id)
    except RayServeException:
        replica = str(os.getpid())
    return {"replica": replica, "node": node}


_name_of = lru_cache(node_name)
"""Ray's head is asked once: a status must not wait for it."""
