"""Prefill over passages in any order, each computed once wherever it stood (FusionRAG)."""

import torch
from torch import Tensor

from actors.engine.chunks import PrefillChunks
from actors.engine.config import FusionConfig
from actors.engine.fusion.assembled import Assembled
from actors.engine.fusion.assembly import Assembler, ChangedError
from actors.engine.fusion.rotation import Rotation
from actors.engine.fusion.rules import create_selection
from actors.engine.fusion.selection import pick
from actors.engine.fusion.sparse import SparseBatch
from actors.engine.plan import Plan
from actors.engine.prefix import PrefixPrefill
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.types import Path


class FusionPrefill:
    """A conversation's history is exact, from the store or computed. Prompts whose passages all
    stand right behind the prefix, and those whose stored KV changes while it is copied, are
    computed exactly."""

    def __init__(
        self,
        runtime: Runtime,
        segments: Segments,
        exact: PrefixPrefill,
        config: FusionConfig,
        rotation: Rotation,
        chunks: PrefillChunks | None = None,
    ) -> None:
        self._decoder, self._slot = runtime.decoder, runtime.slot
        self._exact, self._config = exact, config
        self._chunks = chunks or PrefillChunks()
        self._selection = create_selection(config, runtime.decoder, rotation, self._chunks)
        self._assembler = Assembler(runtime, segments, rotation, self._chunks)

    def paths(self, plan: Plan) -> list[Path]:
        """What the store will be asked for."""
        if not plan.num_stale:
            return self._exact.paths(plan)
        history = self._exact.paths(plan.of_lead()) if plan.num_history else []
        return [*history, *self._assembler.paths(plan)]

    def prefill(self, plan: Plan, kv: Tensor, deadline: float) -> tuple[Tensor, CacheReport]:
        """Fill kv [L, 2, Hkv, capacity, dh] with the prompt's; hidden states [rows, d] of its end.
        Raises ExpiredError."""
        if not plan.num_stale:
            return self._exact.prefill(plan, kv, deadline)
        history = CacheReport()
        if plan.num_history:
            _, history = self._exact.prefill(plan.of_lead(), kv, deadline)
        try:
            assembled, report = self._assembler.assemble(plan, kv, deadline)
        except ChangedError:
            return self._exact.prefill(plan, kv, deadline)
        hidden, repaired = self._repair(plan, assembled)
        recomputed = CacheReport(
            tokens_reused=-repaired, tokens_computed=repaired + len(plan.tail), mode="fusion"
        )
        return hidden, history + report + recomputed

    def _repair(self, plan: Plan, assembled: Assembled) -> tuple[Tensor, int]:
        """Compute the tokens that matter most, and the question, in sight of all before them."""
        num = int(self._config.ratio * assembled.num_passage_tokens)
        with self._slot.held():
            picked = pick(self._selection, assembled, plan.question, num)
            tokens = [*assembled.tokens, *plan.tail]
            asked = range(assembled.end, assembled.end + len(plan.tail))
            places = [*picked, *asked]
            hidden = torch.empty(0)
            for start, end in self._chunks.passes(len(places)):
                part = places[start:end]
                rows, arrive = [tokens[p] for p in part], self._chunks.arrive
                batch = SparseBatch(rows, part, assembled.kv, arrive)
                hidden = self._chunks.forward(self._decoder, batch)
            return hidden, len(picked)
