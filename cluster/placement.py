"""What each replica reserves of its node."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlacementConfig:
    __pydantic_config__ = {"extra": "forbid"}

    replica_cpus: float = 0.1
    """Ray CPUs per replica. Small: engines take turns with all cores, they do not own any."""
    reranker_gpus: float = 1.0
    """Ray GPUs of a reranker replica whose model's device is cuda; shares put several on one."""
    generator_gpus: float = 1.0
    """The same for the generator."""

    def __post_init__(self) -> None:
        if not self.replica_cpus > 0:
            raise ValueError(f"placement.replica_cpus is {self.replica_cpus}, must be above 0")
        for name in ("reranker_gpus", "generator_gpus"):
            gpus = getattr(self, name)
            if gpus <= 0 or (gpus > 1 and gpus != int(gpus)):
                raise ValueError(
                    f"placement.{name} is {gpus}, must be a share in (0, 1) or a whole number"
                )
