"""Choosing the next token, and turning tokens into text that is safe to send."""

import math
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from actors.errors import RequestError, UnavailableError
from actors.messages import Sampling

MAX_STOPS = 16
SEEDS = range(-(2**63), 2**64)
"""What a torch generator takes."""
_GREEDY_BELOW = 1e-5
"""A lower temperature gives the most likely token all of the probability, or overflows."""
_MAX_INCOMPLETE = 16
"""Tokens that are held back because their last character may be incomplete. One spans four at most,
but a token of bytes may end one character and begin the next."""
_REPLACEMENT = "\ufffd"


def validate(sampling: Sampling, max_new_tokens: int) -> None:
    """Raise RequestError for a setting outside its bounds, naming it."""
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


class Sampler:
    """Picks tokens of one sequence; greedy at a temperature of 0 or next to it, else nucleus
    sampling with a seed."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def pick(self, logits: Tensor) -> int:
        """Next token of logits [vocabulary]. Raises UnavailableError when they are no numbers."""
        best, token = logits.max(-1)
        if not math.isfinite(best):
            raise UnavailableError("the model computed logits that are not finite")
        if self._sampling.temperature < _GREEDY_BELOW:
            return int(token)
        # Below the largest: a quotient then overflows to -inf alone, which has no probability.
        scaled = (logits - best).cpu() / self._sampling.temperature
        probs, order = scaled.softmax(-1).sort(descending=True)
        # The token that crosses top_p stays in; the first one also where that is 0 as a float32.
        is_beyond = probs.cumsum(-1) - probs >= self._sampling.top_p
        is_beyond[0] = False
        probs = probs.masked_fill(is_beyond, 0.0)
        drawn = torch.multinomial(probs, 1, generator=self._generator)
        return int(order[drawn])


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
