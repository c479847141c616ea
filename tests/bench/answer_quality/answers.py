"""Answers and how good they are: SQuAD's exact match and F1, the gold answer's log-probability."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from actors.engine.config import GeneratorConfig
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.messages import Message
from tests.bench import asking
from tests.bench.engines import Bench
from tests.bench.pool import Asked

FIGURES = ("em", "f1", "gold_logprob")


@dataclass(frozen=True, slots=True)
class Judged:
    em: float
    f1: float
    """Both in [0, 1], against the gold answer that fits best."""
    gold_logprob: float
    """Mean over the tokens of the gold answer that the model finds likeliest."""


class Answering:
    """One generator; the same question with the same passages is answered once."""

    def __init__(self, parts: Bench) -> None:
        self._decoder, self._prompt = parts.runtime.decoder, parts.runtime.prompt
        self._generator = parts.generator(GeneratorConfig(mode="full"))
        self._known: dict[tuple[str, ...], Judged] = {}

    def judged(self, asked: Asked, texts: Sequence[str]) -> Judged:
        key = (asked.question, *texts)
        if key not in self._known:
            tokens = asking.greedy(self._generator, asked.question, texts)
            answer = self._decoder.tokenizer.decode(tokens, skip_special_tokens=True)
            self._known[key] = Judged(
                em=max(exact_match(answer, gold) for gold in asked.answers),
                f1=max(f1(answer, gold) for gold in asked.answers),
                gold_logprob=max(self._log_prob(asked, texts, gold) for gold in asked.answers),
            )
        return self._known[key]

    def _log_prob(self, asked: Asked, texts: Sequence[str], gold: str) -> float:
        """Of the gold answer's tokens behind the prompt that the generator sees."""
        prefix, _, tail = self._prompt.conversation((Message("user", asked.question),))
        passages = [token for text in texts for token in self._prompt.passage(text)]
        answer = self._prompt.raw(gold)
        hidden = self._decoder.forward(Batch([Lane([*prefix, *passages, *tail, *answer[:-1]])]))
        targets = torch.tensor(answer, device=hidden.device)
        return float(self._decoder.log_probs(hidden[-len(answer) :], targets).mean())


def exact_match(answer: str, gold: str) -> float:
    return float(normalized(answer) == normalized(gold))


def f1(answer: str, gold: str) -> float:
    """Of the words both have, as in SQuAD's evaluation."""
    ours, theirs = normalized(answer).split(), normalized(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def normalized(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())
