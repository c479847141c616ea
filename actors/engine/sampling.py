"""Choosing the next token, and turning tokens into text that is safe to send."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from actors.engine.grammar import Grammar
from actors.engine.shaping import Shaping
from actors.errors import RequestError, UnavailableError
from actors.messages import Sampling

MAX_STOPS = 16
MAX_LOGPROBS = 20
MAX_BIAS = 100
_BOUNDS = {
    "top_k": (0, 2**31),
    "min_p": (0, 1),
    "repetition_penalty": (0.01, 100),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
SEEDS = range(-(2**63), 2**64)
"""What a torch generator takes."""
_GREEDY_BELOW = 1e-5
"""A lower temperature gives the most likely token all of the probability, or overflows."""
_MAX_INCOMPLETE = 16
"""Tokens that are held back because their last character may be incomplete. One spans four at most,
but a token of bytes may end one character and begin the next."""
_REPLACEMENT = "\ufffd"


def validate(sampling: Sampling, max_new_tokens: int, num_tokens: int) -> None:
    """Raise RequestError for a setting outside its bounds, naming it. `num_tokens`: of the
    vocabulary."""
    if not 1 <= sampling.max_tokens <= max_new_tokens:
        raise RequestError(
            "max_tokens", f"is {sampling.max_tokens}, allowed: 1 to {max_new_tokens}"
        )
    if not 0 <= sampling.temperature <= 2:
        raise RequestError("temperature", f"is {sampling.temperature}, allowed: 0 to 2")
    if not 0 < sampling.top_p <= 1:
        raise RequestError("top_p", f"is {sampling.top_p}, allowed: above 0 to 1")
    if sampling.seed is not None and sampling.seed not in SEEDS:
        raise RequestError(
            "seed", f"is {sampling.seed}, allowed: {SEEDS.start} to {SEEDS.stop - 1}"
        )
    if len(sampling.stop) > MAX_STOPS or not all(sampling.stop):
        raise RequestError("stop", f"allowed: up to {MAX_STOPS} strings, none of them empty")
    for name, allowed in _BOUNDS.items():
        value, (least, most) = getattr(sampling, name), allowed
        if not least <= value <= most:
            raise RequestError(name, f"is {value}, allowed: {least} to {most}")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        raise RequestError("top_logprobs", f"is {sampling.logprobs}, allowed: 0 to {MAX_LOGPROBS}")
    for token, bias in sampling.logit_bias:
        if not (0 <= token < num_tokens and -MAX_BIAS <= bias <= MAX_BIAS):
            raise RequestError(
                "logit_bias",
                f"has {token}: {bias}, allowed: tokens 0 to {num_tokens - 1}, biases from "
                f"-{MAX_BIAS} to {MAX_BIAS}",
            )


class Picked(NamedTuple):
    """A token with its log-probability, and the most likely ones of its place."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Sampler:
    """Picks tokens of one sequence; greedy at a temperature of 0 or next to it, else drawn from
    the most likely ones (`top_k`, `min_p`, `top_p`) with a seed."""

    def __init__(
        self, sampling: Sampling, prompt: Iterable[int] = (), grammar: Grammar | None = None
    ) -> None:
        """`grammar`: the only tokens that are picked are those that it allows."""
        self._sampling = sampling
        self._shaping = Shaping.of(sampling, prompt)
        self._grammar = grammar
        self._picked: list[Picked] = []
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def pick(self, logits: Tensor) -> int:
        """Next token of logits [vocabulary]. Raises UnavailableError when they are no numbers."""
        shaped = logits if self._shaping is None else self._shaping.shaped(logits)
        if self._grammar is not None:
            allowed = torch.from_numpy(self._grammar.allowed(len(logits))).to(logits.device)
            shaped = shaped.masked_fill(~allowed, -torch.inf)
        best, likeliest = shaped.max(-1)
        if not math.isfinite(best):
            raise UnavailableError("the model computed logits that are not finite")
        greedy = self._sampling.temperature < _GREEDY_BELOW
        token = int(likeliest) if greedy else self._draw(shaped, best)
        if self._shaping is not None:
            self._shaping.took(token)
        if self._grammar is not None:
            self._grammar.took(token)
        if self._sampling.logprobs is not None:
            self._picked.append(_told(logits, token, self._sampling.logprobs))
        return token

    def taken(self) -> list[Picked]:
        """What was picked since the last call, where log-probabilities are asked for."""
        picked, self._picked = self._picked, []
        return picked

    def _draw(self, logits: Tensor, best: Tensor) -> int:
        # Below the largest: a quotient then overflows to -inf alone, which has no probability.
        scaled = (logits - best).cpu() / self._sampling.temperature
        probs, order = scaled.softmax(-1).sort(descending=True)
        if self._sampling.top_k:
            probs = probs[: self._sampling.top_k] / probs[: self._sampling.top_k].sum()
        if self._sampling.min_p:
            probs = probs.masked_fill(probs < self._sampling.min_p * probs[0], 0.0)
            probs = probs / probs.sum()
        # The token that crosses top_p stays in; the first one also where that is 0 as a float32.
        is_beyond = probs.cumsum(-1) - probs >= self._sampling.top_p
        is_beyond[0] = False
        probs = probs.masked_fill(is_beyond, 0.0)
        drawn = torch.multinomial(probs, 1, generator=self._generator)
        return int(order[drawn])


def _told(logits: Tensor, token: int, num: int) -> Picked:
    logprobs = logits.log_softmax(-1)
    top = logprobs.topk(min(num, len(logprobs)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return Picked(token, float(logprobs[token]), tuple(pairs))


class TextStream:
    """Text of a growing token sequence, held back where a stop string could still begin.

    A character that spans tokens appears when it is whole; bytes that are no text are U+FFFD. The
    newest tokens are decoded behind those before them, as vLLM and TGI do: a decoder of byte
    fallbacks gives other text to a run of bytes once the run turns out to be broken.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._ids: list[int] = []
        self._context = self._decoded = 0
        # ids [context, decoded) stand before what is decoded next; their text is out.
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Text that can be sent after this token; sets `stopped` when a stop string is complete."""
        self._ids.append(token)
        self._held += self._decode(at_end=False)
        found = [i for stop in self._stops if (i := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        safe = len(self._held) - self._overlap()
        text, self._held = self._held[:safe], self._held[safe:]
        return text

    def flush(self) -> str:
        """What was held back, when no more tokens come; a character cut short is U+FFFD."""
        text, self._held = self._held + self._decode(at_end=True), ""
        return text

    def _decode(self, at_end: bool) -> str:
        """Text of the tokens since `decoded`; empty while a character may still be incomplete."""
        known = self._tokenizer.decode(self._ids[self._context : self._decoded])
        text = self._tokenizer.decode(self._ids[self._context :])
        may_grow = len(self._ids) - self._decoded < _MAX_INCOMPLETE and not at_end
        if len(text) <= len(known) or (may_grow and text.endswith(_REPLACEMENT)):
            return ""
        self._context, self._decoded = self._decoded, len(self._ids)
        return text[len(known) :]

    def _overlap(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stops):
                return n
        return 0
