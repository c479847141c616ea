"""What each replica reserves, and of which nodes."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class PlacementConfig:
    __pydantic_config__ = {"extra": "forbid"}

    replica_cpus: float = 0.1
    """Ray CPUs per replica. Small: engines take turns with all cores, they do not own any."""
    reranker_gpus: float = 1.0
    """Ray GPUs of a reranker replica whose model's device is cuda; shares put several on one."""
    generator_gpus: float = 1.0
    """The same for the generator."""
    cpu_labels: dict[str, str] = field(default_factory=dict)
    """Labels of the nodes for ingress, retrievers and corpus writer; empty: any node."""
    max_surge_percent: int = 100
    """Rerankers and generators beyond their number while an update replaces them, in percent. 0
    where all GPUs are taken: an old one then ends before its successor starts."""

    def __post_init__(self) -> None:
        if not self.replica_cpus > 0:
            raise ValueError(f"placement.replica_cpus is {self.replica_cpus}, must be above 0")
        if not 0 <= self.max_surge_percent <= 100:
            raise ValueError(
                f"placement.max_surge_percent is {self.max_surge_percent}, must be 0 to 100"
            )
        for name in ("reranker_gpus", "generator_gpus"):
            gpus = getattr(self, name)
            if gpus <= 0 or (gpus > 1 and gpus != int(gpus)):
                raise ValueError(
                    f"placement.{name} is {gpus}, must be a share in (0, 1) or a whole number"
                )
