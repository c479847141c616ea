"""Reading an exposition: what a Prometheus would store of it."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

Series = dict[str, float]
"""By name and labels, as PromQL writes them: `name{a="1",b="2"}`, labels in order."""


def series_of(families: Iterable[Metric]) -> Series:
    found: Series = {}
    for family in families:
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} comes twice: Prometheus refuses the scrape"
            found[name] = sample.value
    return found


def parsed(text: str) -> Series:
    return series_of(text_string_to_metric_families(text))


def moved(before: Series, after: Series) -> Series:
    """What changed, by how much."""
    changes = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return {name: change for name, change in changes.items() if change}
