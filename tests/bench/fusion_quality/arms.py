"""What an answer's first token, and the gold answer, look like after each way of prefilling."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from actors.engine.config import DeviceTierConfig, FusionConfig, GeneratorConfig, SelectionRule
from actors.engine.device import create_device_tier
from actors.engine.fusion.offline import Fuser
from actors.engine.fusion.prefill import FusionPrefill
from actors.engine.fusion.rotation import Rotation
from actors.engine.generate import Prefill
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.engine.plan import Plan, Planner
from actors.engine.prefix import PrefixPrefill
from actors.engine.segments import Segments
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.keys import neighbours_digest
from tests.bench.answer_quality.answers import f1
from tests.bench.engines import Bench
from tests.bench.fusion_quality.prompts import Asked, Neighbours

TENANT = "bench"
NEW_TOKENS = 16
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    log_probs: Tensor
    """[vocabulary] of the first answer token, fp32."""
    gold: float
    """Log-probability of the likeliest gold answer, a token on average."""
    f1: float | None = None
    """Of a greedy answer, where one was made."""

    @property
    def first(self) -> int:
        """The likeliest token."""
        return int(self.log_probs.argmax())


class Lab:
    """Prefills of one model over one store, by name."""

    def __init__(self, parts: Bench) -> None:
        self.runtime, decoder = parts.runtime, parts.runtime.decoder
        tier = create_device_tier(parts.client, decoder.device, DeviceTierConfig())
        self.segments = Segments(parts.client, tier)
        self._planner = Planner(decoder, parts.runtime.prompt, GeneratorConfig())
        self.full: Prefill = PrefixPrefill(self.runtime, Segments(None, tier))
        self._rotation = Rotation.of(decoder)
        self._fuser = Fuser(self.runtime, self.segments, 4096, self._rotation)

    def fusion(self, rule: SelectionRule, ratio: float) -> FusionPrefill:
        config = FusionConfig(ratio=ratio, selection=rule)
        exact = PrefixPrefill(self.runtime, self.segments)
        return FusionPrefill(self.runtime, self.segments, exact, config, self._rotation)

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
    def outcome(
        self, prefill: Prefill, plan: Plan, answers: Sequence[str], spoken: bool = False
    ) -> Outcome:
        """`spoken`: with a greedy answer."""
        decoder = self.runtime.decoder
        kv, last = self.filled(prefill, plan)
        past = kv[:, :, :, : plan.num_tokens]
        gold = max(self._log_prob(answer, past, last) for answer in answers)
        first = decoder.logits(last)[0].log_softmax(-1)
        text = self._greedy(kv, plan.num_tokens, int(first.argmax())) if spoken else None
        scored = None if text is None else max(f1(text, answer) for answer in answers)
        return Outcome(first, gold, scored)

    def filled(self, prefill: Prefill, plan: Plan) -> tuple[Tensor, Tensor]:
        """KV with room for an answer, and the last hidden state [1, d]."""
        kv = self.runtime.decoder.empty_kv(plan.num_tokens + NEW_TOKENS)
        hidden, _ = prefill.prefill(plan, kv, time.monotonic() + _TIMEOUT_S)
        return kv, hidden[-1:]

    @torch.inference_mode()
    def deviations(self, plan: Plan, fused: Plan, reuse: Prefill) -> Tensor:
        """[2, L]: how far raw and fused KV of the passages behind the first are from full
        attention's, relative to its norm (Frobenius)."""
        start = sum(map(len, plan.pieces[:2]))
        end = plan.num_tokens - len(plan.tail)
        full = self.filled(self.full, plan)[0][:, :, :, start:end]
        found = [self.filled(reuse, one)[0][:, :, :, start:end] for one in (plan, fused)]
        norm = full.flatten(1).norm(dim=1)
        return torch.stack([(kv - full).flatten(1).norm(dim=1) / norm for kv in found])

    def _log_prob(self, answer: str, past: Tensor, last: Tensor) -> float:
        decoder, tokens = self.runtime.decoder, self.runtime.prompt.raw(answer.strip())
        states = [last]
        if len(tokens) > 1:
            states.append(decoder.forward(Batch([Lane(tokens[:-1], [past])])))
        return float(decoder.log_probs(torch.cat(states), torch.tensor(tokens)).mean())

    def _greedy(self, kv: Tensor, length: int, token: int) -> str:
        decoder, tokens = self.runtime.decoder, [token]
        for n in range(length, length + NEW_TOKENS - 1):
            if tokens[-1] in decoder.eos_ids:
                break
            own, joined = kv[:, :, :, n : n + 1], kv[:, :, :, : n + 1]
            lane = Lane(tokens[-1:], [kv[:, :, :, :n]], (own,), joined=joined)
            tokens.append(int(decoder.logits(decoder.forward(Batch([lane])))[0].argmax()))
        return str(decoder.tokenizer.decode(tokens, skip_special_tokens=True))


def divergence(of: Outcome, to: Outcome) -> float:
    """KL(of || to) of the first answer token, in nats."""
    p = of.log_probs
    return float((p.exp() * (p - to.log_probs)).sum())
