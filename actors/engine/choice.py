"""Which way of prefilling a request is worth its quality (mode `auto`).

The time to the first token is predicted for both ways from where the store has the segments: bytes
to load by tier, at the rates that loads have had here, and tokens to compute. Fusion is not
lossless, so it has to be faster by a factor.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile

from torch import Tensor

from actors.engine.chunks import PrefillChunks
from actors.engine.config import FusionConfig
from actors.engine.fusion.prefill import FusionPrefill
from actors.engine.pace import Pace
from actors.engine.plan import Plan
from actors.engine.prefix import PrefixPrefill
from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.types import Path, SegmentKey, SegmentSpec, TierName


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one way of prefilling a request."""

    load_s: float
    compute_s: float
    num_cached: int
    """Segments that are there."""

    @property
    def seconds(self) -> float:
        return self.load_s + self.compute_s


class AutoPrefill:
    """Exact, unless fusion is predicted to be `fusion.min_gain` times as fast."""

    def __init__(
        self,
        exact: PrefixPrefill,
        fusion: FusionPrefill,
        segments: Segments,
        config: FusionConfig,
        chunks: PrefillChunks,
    ) -> None:
        self._exact, self._fusion, self._segments = exact, fusion, segments
        self._config, self._pace, self._chunks = config, Pace(), chunks

    def paths(self, plan: Plan) -> list[Path]:
        """Of both ways: which one it will be is known when its turn comes."""
        return [*self._exact.paths(plan), *self._fusion.paths(plan)]

    def prefill(self, plan: Plan, kv: Tensor, deadline: float) -> tuple[Tensor, CacheReport]:
        """See `Prefill`; the report says what was chosen, and why."""
        if not plan.num_stale:
            hidden, report = self._exact.prefill(plan, kv, deadline)
            return hidden, replace(report, reason="there is no second passage")
        exact, fusion = self.forecasts(plan)
        fuse = exact.seconds > self._config.min_gain * fusion.seconds
        chosen, forecast = (self._fusion, fusion) if fuse else (self._exact, exact)
        started = self._chunks.clock()
        hidden, report = chosen.prefill(plan, kv, deadline)
        load_s = forecast.load_s  # as expected; the rest is what computing took
        self._pace.learn(forecast.compute_s, max(0.0, self._chunks.clock() - started - load_s))
        return hidden, replace(report, reason=_reason(plan, exact, fusion))

    def forecasts(self, plan: Plan) -> tuple[Forecast, Forecast]:
        """Of the exact way and of fusion, for what the store has now."""
        passages = self._fusion.paths(plan)[-plan.num_passages :]
        keys = {spec.key for path in (plan.path, *passages) for spec in path}
        there = self._segments.locate(keys)
        return self._of_exact(plan, there), self._of_fusion(plan, passages, there)

    def _of_exact(self, plan: Plan, there: Mapping[SegmentKey, TierName]) -> Forecast:
        found = list(takewhile(lambda spec: spec.key in there, plan.path))
        cached = sum(spec.layout.num_tokens for spec in found)
        compute_s = self._pace.seconds(cached, plan.num_tokens - cached)
        return Forecast(self._load_s(found, there), compute_s, len(found))

    def _of_fusion(
        self, plan: Plan, passages: list[Path], there: Mapping[SegmentKey, TierName]
    ) -> Forecast:
        found = [path[-1] for path in passages if path[-1].key in there]
        missing = [path[-1] for path in passages if path[-1].key not in there]
        repaired = int(self._config.ratio * plan.num_passage_tokens) + len(plan.tail)
        if plan.num_history:
            lead = list(takewhile(lambda s: s.key in there, plan.path[: len(plan.lead)]))
            repaired += sum(map(len, plan.lead[len(lead) :]))
            found += lead
        compute_s = self._pace.seconds(plan.num_tokens // 2, repaired)
        if missing:
            num_missing = sum(spec.layout.num_tokens for spec in missing)
            compute_s += self._pace.seconds(len(plan.pieces[0]), num_missing)
        num_found = len(passages) - len(missing)
        return Forecast(self._load_s(found, there), compute_s, num_found)

    def _load_s(self, found: Iterable[SegmentSpec], there: Mapping[SegmentKey, TierName]) -> float:
        nbytes = Counter[TierName]()
        for spec in found:
            nbytes[there[spec.key]] += spec.layout.nbytes
        return self._segments.rates.seconds(nbytes)


def _reason(plan: Plan, exact: Forecast, fusion: Forecast) -> str:
    in_order = max(0, exact.num_cached - len(plan.lead))
    return (
        f"predicted {exact.seconds:.2f} s exact ({in_order} of {plan.num_passages} passages "
        f"cached in this order), {fusion.seconds:.2f} s with fusion ({fusion.num_cached} cached)"
    )
