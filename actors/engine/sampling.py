"""Choosing the next token, and turning tokens into text that is safe to send."""

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from actors.errors import RequestError
from actors.messages import Sampling

MAX_STOPS = 16


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
    if len(sampling.stop) > MAX_STOPS or not all(sampling.stop):
        raise RequestError("stop", f"allowed: up to {MAX_STOPS} strings, none of them empty")


class Sampler:
    """Picks tokens of one sequence; greedy at temperature 0, else nucleus sampling with a seed."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    def pick(self, logits: Tensor) -> int:
        """Next token of logits [vocabulary]."""
        if self._sampling.temperature == 0:
            return int(logits.argmax())
        probs, order = (logits.cpu() / self._sampling.temperature).softmax(-1).sort(descending=True)
        # The token that crosses top_p stays in; the first one always does.
        probs = probs.masked_fill(probs.cumsum(-1) - probs >= self._sampling.top_p, 0.0)
        drawn = torch.multinomial(probs, 1, generator=self._generator)
        return int(order[drawn])


class TextStream:
    """Text of a growing token sequence, held back where a stop string could still begin.

    A character that spans tokens appears when it is whole.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._decode = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._num_decoded = 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Text that can be sent after this token; sets `stopped` when a stop string is complete."""
        self._ids.append(token)
        self._hold(self._decode.step(self._tokenizer, token) or "")
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
        self._hold(self._tokenizer.decode(self._ids)[self._num_decoded :])
        text, self._held = self._held, ""
        return text

    def _hold(self, text: str) -> None:
        self._held += text
        self._num_decoded += len(text)

    def _overlap(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-n:]) for stop in self._stops):
                return n
        return 0
