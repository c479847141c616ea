"""Names of the store's actors and nodes, by which every process of the cluster knows them."""

import ray

NAMESPACE = "hyperrag"
DIRECTORY = "hyperrag-kvdirectory"


def shard_name(node_id: str) -> str:
    return f"hyperrag-kvshard-{node_id}"


def node_name(node_id: str) -> str:
    """The name that its operator gave it, or its address: the same after a restart."""
    named = [node["NodeName"] for node in ray.nodes() if node["NodeID"] == node_id]
    return str(named[0]) if named else node_id
