"""The order of a prompt's passages under which most of them are found (canonical order)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from actors.engine.plan import Plan
from actors.engine.segments import Segments
from kvstore.keys import extend
from kvstore.types import Layout, Path

_WIDTH = 32
"""Paths that are followed at a time; the longest are, where there are more."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A cached path, and which passages it is made of."""

    path: Path
    order: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        return sum(spec.layout.num_tokens for spec in self.path)


def canonical(plan: Plan, segments: Segments, layout: Layout) -> Plan:
    """The longest path that the store has of what leads the plan and any of its passages, then the
    others in the order given. Asks the store once for each passage of that path."""
    if plan.num_passages < 2:
        return plan
    best = _Found(plan.path[: len(plan.lead)])
    found = [best]
    while found := _longer(plan, found, segments, layout):
        best = max([best, *found], key=lambda f: f.num_tokens)
    rest = [i for i in range(plan.num_passages) if i not in best.order]
    return reordered(plan, [*best.order, *rest], layout)


def reordered(plan: Plan, order: Sequence[int], layout: Layout) -> Plan:
    """The plan with its passages in another order."""
    passages = [plan.passages[i] for i in order]
    path = plan.path[: len(plan.lead)]
    for piece in passages:
        path = extend(plan.root, path, piece, layout)
    neighbours = tuple(plan.neighbours[i] for i in order) if plan.neighbours else ()
    return replace(plan, pieces=(*plan.lead, *passages), path=path, neighbours=neighbours)


def _longer(
    plan: Plan, found: Sequence[_Found], segments: Segments, layout: Layout
) -> list[_Found]:
    """Those of the paths with one more passage that the store has."""
    tried = [
        _Found(extend(plan.root, f.path, passage, layout), (*f.order, i))
        for f in found
        for i, passage in enumerate(plan.passages)
        if i not in f.order
    ]
    there = segments.locate([f.path[-1].key for f in tried])
    kept = [f for f in tried if f.path[-1].key in there]
    return sorted(kept, key=lambda f: -f.num_tokens)[:_WIDTH]
