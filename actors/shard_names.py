"""Names of the store's actors, by which every process of the cluster finds them."""

NAMESPACE = "hyperrag"
DIRECTORY = "hyperrag-kvdirectory"


def shard_name(node_id: str) -> str:
    return f"hyperrag-kvshard-{node_id}"
