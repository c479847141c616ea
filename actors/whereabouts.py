"""Which replica of a deployment this process is, and on which node."""

import os

import ray
from ray import serve
from ray.serve.exceptions import RayServeException


def whereabouts() -> dict[str, str]:
    """`replica`: Serve's id, the process's number outside of Serve; `node_id`: Ray's, empty outside
    of Ray."""
    node_id = str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
    try:
        replica = str(serve.get_replica_context().replica_id.unique_id)
    except RayServeException:
        replica = str(os.getpid())
    return {"replica": replica, "node_id": node_id}
