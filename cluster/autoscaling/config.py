"""Settings of the autoscaler."""

from dataclasses import dataclass

from cluster.autoscaling.splits import Budget


@dataclass(frozen=True, slots=True)
class AutoscalerConfig:
    __pydantic_config__ = {"extra": "forbid"}

    enabled: bool = False
    """Without it num_replicas of reranker and generator stand; with it, it begins with them."""
    gpus: float = 0.0
    """The budget: what both take together, as placement.reranker_gpus and generator_gpus count, is
    never more, replicas that start or stop included. 0: what num_replicas of both take."""
    autoscale_total: bool = False
    """Not all of the budget is used, but what the load needs."""
    min_gpus: float = 0.0
    """With autoscale_total: never less. 0: one replica of each."""
    target_utilisation: float = 0.75
    """With autoscale_total: more is taken when the busier of both is busier than this."""
    tick_s: float = 5.0
    """Between two decisions, and between two measurements."""
    window_s: float = 30.0
    """Measurements of so long are averaged; Serve's look_back_period_s."""
    evidence_s: float = 15.0
    """Gain beyond the hysteresis, times seconds, that a move takes: a split that sustains twice the
    load is taken after some 15 s, one that sustains a quarter more after 150 s."""
    cooldown_s: float = 60.0
    """From the end of one move to the next."""
    hysteresis: float = 0.1
    """A split must sustain so much more of the present load than the present one."""
    horizon_s: float = 60.0
    """Within this a move must have paid for itself, and a queue is to be worked off."""
    switch_s: float = 20.0
    """Until a GPU that moves serves again: requests in progress, hand-over, model load. The first
    guess; moves that were made correct it."""
    refill_s: float = 5.0
    """GPU seconds that the loss of a replica's device tier costs."""
    drain_s: float = 60.0
    """A replica that stops has so long for its requests, and to hand its segments to the store;
    a request that takes longer fails. Serve's graceful_shutdown_timeout_s."""
    move_timeout_s: float = 300.0
    """A move that has not ended by then, as when a replica cannot start, is taken back."""

    def budget(self, rerank: float, generate: float) -> Budget:
        """Of `gpus`, where a replica of each pool takes so many."""
        return Budget(self.gpus, rerank, generate, self.min_gpus if self.autoscale_total else None)

    def __post_init__(self) -> None:
        for name in (
            "gpus",
            "min_gpus",
            "cooldown_s",
            "hysteresis",
            "evidence_s",
            "switch_s",
            "refill_s",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"autoscaler.{name} is {getattr(self, name)}, must be 0 or more")
        for name in ("tick_s", "horizon_s", "drain_s", "move_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"autoscaler.{name} is {getattr(self, name)}, must be above 0")
        if not 0 < self.target_utilisation <= 1:
            raise ValueError(
                f"autoscaler.target_utilisation is {self.target_utilisation}, must be in (0, 1]"
            )
        if self.window_s <= self.tick_s:
            raise ValueError(
                f"autoscaler.window_s is {self.window_s}, must be above tick_s = {self.tick_s}"
            )
