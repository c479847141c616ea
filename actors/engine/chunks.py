"""A prefill in turns with the decoding of others (chunked prefill; Sarathi-Serve, 2403.02310).

While others decode, a prefill is cut into passes of a few rows, and they get a token between any
two. Alone it is computed in as few passes as it can be.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Others(Protocol):
    """What the engine has to do beside one prefill."""

    @property
    def decoding(self) -> bool:
        """Whether anybody waits for a token."""
        ...

    def step(self) -> bool:
        """One more token for all of them; False where nobody waits for one."""
        ...

    def check(self) -> None:
        """Raises what ends the prefill: it was cancelled, or its time is up."""
        ...


class _Nobody:
    decoding = False

    def step(self) -> bool:
        return False

    def check(self) -> None:
        pass


class PrefillChunks:
    """Of one engine thread."""

    def __init__(self, chunk_tokens: int = 32) -> None:
        """`chunk_tokens`: rows of a pass while others decode."""
        self._chunk_tokens = chunk_tokens
        self._others: Others = _Nobody()
        self._stepped = True
        """Whether nothing was computed since the others' last token."""
        self._others_s = 0.0

    @contextmanager
    def beside(self, others: Others) -> Iterator[None]:
        """Inside, a prefill takes turns with these, who have just had a token."""
        self._others, self._stepped = others, True
        try:
            yield
        finally:
            self._others = _Nobody()

    def passes(self, num_rows: int) -> Iterator[tuple[int, int]]:
        """Cut so many rows into passes, each [start, end). One begins when the others had a token
        since the last. Raises what ends the prefill."""
        start = 0
        while start < num_rows:
            if not self._stepped:
                self.step()
            self._others.check()
            left = num_rows - start
            end = start + (min(left, self._chunk_tokens) if self._others.decoding else left)
            self._stepped = False
            yield start, end
            start = end

    def step(self) -> bool:
        """One more token for the others; False where nobody waits for one. Raises what ends the
        prefill."""
        self._others.check()
        began = time.monotonic()
        try:
            return self._others.step()
        finally:
            self._others_s += time.monotonic() - began
            self._stepped = True

    def arrive(self, layer: int) -> bool:
        """For a pass that waits for no stored KV (`Batch.arrive`): raises what ends the prefill."""
        self._others.check()
        return True

    def clock(self) -> float:
        """Seconds on a monotonic clock that stands still while others have their turn."""
        return time.monotonic() - self._others_s
