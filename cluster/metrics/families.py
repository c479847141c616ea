"""A table of metrics, and how reports become series."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

Labels = Sequence[str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One field of a report, as a metric. A counter's name gets `_total` when it is exported."""

    field: str
    kind: Literal["counter", "gauge"]
    name: str
    help: str
    fixed: tuple[tuple[str, str], ...] = ()
    """Labels that tell it from other fields under the same name."""


def counter(field: str, name: str, help: str, **fixed: str) -> Figure:
    return Figure(field, "counter", f"hyperrag_{name}", help, tuple(fixed.items()))


def gauge(field: str, name: str, help: str, **fixed: str) -> Figure:
    return Figure(field, "gauge", f"hyperrag_{name}", help, tuple(fixed.items()))


def tabulated(
    figures: Sequence[Figure],
    labels: Labels,
    reports: Iterable[tuple[Sequence[str], Mapping[str, Any]]],
) -> list[Metric]:
    """One series for each figure and report that has its field; `reports` come with the values of
    `labels`. A family without a series is left out."""
    families: dict[str, Metric] = {}
    for values, report in reports:
        for figure in figures:
            if figure.field in report:
                names = (*labels, *(name for name, _ in figure.fixed))
                family = families.setdefault(figure.name, _family(figure, names))
                assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
                extra = [value for _, value in figure.fixed]
                family.add_metric([*values, *extra], float(report[figure.field]))
    return list(families.values())


def _family(figure: Figure, labels: Labels) -> Metric:
    kind = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
    return kind(figure.name, figure.help, labels=labels)
