"""Passes that score: one forward pass over many rows, then the rule over each question's rows."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from actors.engine.asking import Row
from actors.engine.cache import LayerLostError
from actors.engine.compute import ComputeSlot
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.padded import Workspace
from actors.engine.scoring import ScoringRule

ToLane = Callable[[Row], Lane]


class ScoringPasses:
    """For one engine thread: all passes share one workspace."""

    def __init__(
        self, decoder: Decoder, rule: ScoringRule, slot: ComputeSlot, batch_tokens: int
    ) -> None:
        self._decoder, self._rule, self._slot = decoder, rule, slot
        self._batch_tokens = batch_tokens
        self._workspace = Workspace()

    def run(
        self,
        rows: Sequence[Row],
        to_lane: ToLane,
        prefix: Tensor | None = None,
        arrive: Callable[[int], bool] = lambda layer: True,
    ) -> Iterator[tuple[list[Row], list[float] | None]]:
        """Scores of rows, pass by pass, None when stored KV was lost on its way; a question that
        expires before a pass is left out of it.

        `prefix` [L, 2, Hkv, Lp, dh] stands before all lanes; for `arrive` see Batch.
        """
        for part in self._cut(rows, to_lane):
            part = [row for row in part if row.job.is_open]
            if part:
                lanes = [to_lane(row) for row in part]
                invariant = self._decoder.invariant
                batch = Batch(lanes, prefix, self._workspace, arrive, invariant)
                yield part, self._scored(part, batch)

    def _scored(self, part: Sequence[Row], batch: Batch) -> list[float] | None:
        try:
            with self._slot.held():
                scores = self._scores(part, batch)
        except LayerLostError:
            return None
        if not bool(scores.isfinite().all()):
            self._workspace.clear()  # what padding keeps must stay finite
        found: list[float] = scores.tolist()
        return found

    def _cut(self, rows: Sequence[Row], to_lane: ToLane) -> Iterator[list[Row]]:
        part: list[Row] = []
        size = 0
        for row in rows:
            own = len(to_lane(row).tokens)
            if part and size + own > self._batch_tokens:
                yield part
                part, size = [], 0
            part.append(row)
            size += own
        if part:
            yield part

    def _scores(self, rows: Sequence[Row], batch: Batch) -> Tensor:
        """One pass, [len(rows)] in fp32; each question is read from its own rows."""
        hidden = self._decoder.forward(batch)
        ends = torch.tensor(batch.starts[1:], device=hidden.device)
        scores = []
        for job, own in groupby(range(len(rows)), key=lambda i: rows[i].job):
            num_rows = self._rule.num_rows(job.suffix)
            at = ends[list(own)][:, None] - torch.arange(num_rows, 0, -1, device=hidden.device)
            states = hidden[at.flatten()].view(*at.shape, -1)
            scores.append(self._rule.scores(self._decoder, states, job.suffix))
        return torch.cat(scores)
