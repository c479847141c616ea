"""One rerank in every way that is compared: scores in, scores out, all online work included."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from actors.engine import attention
from actors.engine.cuda import CascadeLane, Loading
from actors.engine.segments import Segments
from tests.gpu.candidates import Candidates, full_ids

Arm = Callable[[Candidates, Sequence[int]], list[float]]


def recompute(candidates: Candidates, question: Sequence[int]) -> list[float]:
    """The baseline: one padding-free batch of all tokens, stock transformers over torch's SDPA."""
    rig = candidates.rig
    rig.model.set_attn_implementation("sdpa")
    try:
        with torch.inference_mode():
            hidden = rig.model.get_decoder()(
                input_ids=full_ids(candidates, question).to(rig.device), use_cache=False
            ).last_hidden_state
    finally:
        rig.model.set_attn_implementation(attention.NAME)
    return _scores(candidates, hidden[:, -len(question) :].flatten(0, 1), question)


def from_device(segments: Segments, graphs: bool) -> Arm:
    """Hits of the device tier, read where they are."""

    def arm(candidates: Candidates, question: Sequence[int]) -> list[float]:
        with candidates.lease(segments) as lease:
            assert not lease.paths, "all of it is in the device tier"
            lanes = candidates.lanes(lease, question)
            return _scores(candidates, _hidden(candidates, lanes, graphs, None), question)

    return arm


def from_store(segments: Segments, graphs: bool, tier: str) -> Arm:
    """Hits of DRAM or SSD, loaded layer by layer; before a graph, all layers."""

    def arm(candidates: Candidates, question: Sequence[int]) -> list[float]:
        with candidates.lease(segments) as lease:
            assert {hit.tier for hit in lease.store_hits} <= {tier, "dram"} and not lease.tickets
            lanes = candidates.lanes(lease, question)
            stored = {id(kv): kv for lane in lanes for kv in lane.segments}
            loading = candidates.rig.loader.begin(list(stored.values()))
            slots = dict(zip(stored, loading.slots, strict=True))
            lanes = [replace(x, segments=[slots[id(kv)] for kv in x.segments]) for x in lanes]
            return _scores(candidates, _hidden(candidates, lanes, graphs, loading), question)

    return arm


def _hidden(
    candidates: Candidates, lanes: Sequence[CascadeLane], graphs: bool, loading: Loading | None
) -> Tensor:
    """[N * Lq, d]: the rows that predict the question's tokens, lane by lane."""
    rig = candidates.rig
    if not graphs:
        return rig.eager(lanes, loading.wait if loading else None)[0]
    if loading is not None:
        loading.wait_all()
    hidden = rig.graphs.run(lanes)
    rows = torch.tensor(hidden.starts)[:, None] + torch.arange(len(lanes[0].tokens))
    return hidden.states[rows.flatten().to(rig.device)]


def _scores(candidates: Candidates, hidden: Tensor, question: Sequence[int]) -> list[float]:
    """Mean log-probability of the question's tokens; waits for the device."""
    number = candidates.sizes.candidates
    targets = torch.tensor(list(question) * number).to(hidden.device)
    rig = candidates.rig
    means = rig.log_probs(rig.model, hidden, targets).view(number, -1).mean(1)
    return [float(score) for score in means.tolist()]
