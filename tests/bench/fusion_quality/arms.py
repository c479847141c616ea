"""What an answer's first token, and the gold answer, look like after each way of prefilling."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from actors.engine.config import DeviceTierConfig, FusionConfig, GeneratorConfig
from actors.engine.device import create_device_tier
from actors.engine.fusion.offline import Fuser
from actors.engine.fusion.prefill import FusionPrefill
from actors.engine.generate import Prefill
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.engine.plan import Plan, Planner
from actors.engine.prefix import PrefixPrefill
from actors.engine.segments import Segments
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.keys import neighbours_digest
from tests.bench.engines import Bench
from tests.bench.fusion_quality.prompts import Asked, Neighbours

TENANT = "bench"
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    log_probs: Tensor
    """[vocabulary] of the first answer token, fp32."""
    gold: float
    """Log-probability of the likeliest gold answer, a token on average."""

    @property
    def first(self) -> int:
        """The likeliest token."""
        return int(self.log_probs.argmax())


class Lab:
    """Prefills of one model over one store, by name."""

    def __init__(self, parts: Bench) -> None:
        self.runtime, decoder = parts.runtime, parts.runtime.decoder
        tier = create_device_tier(parts.client, decoder.device, DeviceTierConfig())
        self._segments = Segments(parts.client, tier)
        self._planner = Planner(decoder, parts.runtime.prompt, GeneratorConfig())
        self.full: Prefill = PrefixPrefill(self.runtime, Segments(None, tier))
        self._fuser = Fuser(self.runtime, self._segments, 4096)

    def fusion(self, rule: str, ratio: float) -> FusionPrefill:
        config = FusionConfig(ratio=ratio, selection=rule)  # type: ignore[arg-type]
        exact = PrefixPrefill(self.runtime, self._segments)
        return FusionPrefill(self.runtime, self._segments, exact, config)

    def fuse(self, text: str, neighbours: Neighbours) -> None:
        """Make a passage's fused segment."""
        self._fuser.fuse(TENANT, text, neighbours.of(text), _TIMEOUT_S)

    def plan(self, asked: Asked, neighbours: Neighbours | None) -> Plan:
        """With neighbours: over fused segments."""
        digests: tuple[bytes, ...] = ()
        if neighbours is not None:
            digests = tuple(neighbours_digest(neighbours.of(text)) for text in asked.passages)
        question = (Message("user", asked.question),)
        request = GenerateRequest(
            "bench", TENANT, question, asked.passages, Sampling(max_tokens=1), _TIMEOUT_S
        )
        return self._planner.plan(replace(request, neighbours=digests))

    @torch.inference_mode()
    def outcome(self, prefill: Prefill, plan: Plan, answers: Sequence[str]) -> Outcome:
        decoder, prompt = self.runtime.decoder, self.runtime.prompt
        kv = decoder.empty_kv(plan.num_tokens)
        hidden, _ = prefill.prefill(plan, kv, time.monotonic() + _TIMEOUT_S)
        last = hidden[-1:]
        gold = []
        for answer in answers:
            tokens = prompt.raw(answer.strip())
            states = [last]
            if len(tokens) > 1:
                states.append(decoder.forward(Batch([Lane(tokens[:-1], [kv])])))
            found = decoder.log_probs(torch.cat(states), torch.tensor(tokens))
            gold.append(float(found.mean()))
        return Outcome(decoder.logits(last)[0].log_softmax(-1), max(gold))


def divergence(of: Outcome, to: Outcome) -> float:
    """KL(of || to) of the first answer token, in nats."""
    p = of.log_probs
    return float((p.exp() * (p - to.log_probs)).sum())
