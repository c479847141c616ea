"""Measured loads, as the decision sees them."""

from cluster.autoscaling.decision import Load, PoolLoad


def load(
    rate: float, t_rerank: float, t_generate: float, waiting: tuple[float, float] = (1.0, 1.0)
) -> Load:
    """All that arrives at the reranker goes on to the generator."""
    return Load(
        PoolLoad(rate, rate, t_rerank, waiting[0]), PoolLoad(rate, rate, t_generate, waiting[1])
    )
