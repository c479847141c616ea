"""A prefill beside the decoding of others (chunked prefill; Sarathi-Serve, 2403.02310).

While others decode, a prefill is cut into passes of a few rows, and each pass has a token of theirs
among its rows. What cannot carry them takes turns with them: they get a token between any two
passes. Alone a prefill is computed in as few passes as it can be.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Protocol, TypeVar

from torch import Tensor

from actors.engine.cache import LayerLostError, RowBatch
from actors.engine.jobs import CancelledError
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.segments import remaining
from actors.engine.together import Together
from actors.errors import ActorError

T = TypeVar("T")

log = logging.getLogger(__name__)

_LOOK_S = 0.01
"""A usual prompt is tokenized in less, and waits for no token of others."""


class Others(Protocol):
    """What the engine has to do beside one prefill."""

    @property
    def decoding(self) -> bool:
        """Whether anybody waits for a token."""
        ...

    def step(self) -> bool:
        """One more token for all of them; False where nobody waits for one."""
        ...

    def lanes(self) -> Sequence[Lane]:
        """Their newest tokens, whose KV is not computed yet."""
        ...

    def take(self, hidden: Tensor) -> None:
        """One more token for all of them, from hidden states [rows, d] of their lanes."""
        ...

    def check(self) -> None:
        """Raises what ends the prefill: it was cancelled, or its time is up."""
        ...


class _Nobody:
    decoding = False

    def step(self) -> bool:
        return False

    def lanes(self) -> Sequence[Lane]:
        return ()

    def take(self, hidden: Tensor) -> None:
        pass

    def check(self) -> None:
        pass


class PrefillChunks:
    """Of one engine thread."""

    def __init__(self, chunk_tokens: int = 64) -> None:
        """`chunk_tokens`: rows of a pass while others decode."""
        self._chunk_tokens = chunk_tokens
        self._others: Others = _Nobody()
        self._stepped = True
        """Whether nothing was computed since the others' last token."""
        self._others_s = 0.0

    @contextmanager
    def beside(self, others: Others) -> Iterator[None]:
        """Inside, a prefill goes on beside these, who have just had a token."""
        self._others, self._stepped = others, True
        try:
            yield
        finally:
            self._others = _Nobody()

    def passes(self, num_rows: int) -> Iterator[tuple[int, int]]:
        """Cut so many rows into passes, each [start, end). One begins when the others had a token
        in the last, or since. Raises what ends the prefill."""
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

    def forward(self, decoder: Decoder, batch: RowBatch) -> Tensor:
        """Last hidden states [R, d] of one pass, which has a token of the others among its rows,
        except where it is to be invariant. Raises what ends the prefill."""
        lanes = () if batch.invariant else self._others.lanes()
        if not lanes:
            return decoder.forward(batch)
        num = batch.num_new
        try:
            hidden = decoder.forward(Together(batch, Batch(lanes)))
            with self._their_turn():
                self._others.take(hidden[num:])
        except (ActorError, CancelledError, LayerLostError):
            raise
        except Exception:  # of the prefill, or of one of the others: their turn comes, alone
            log.exception("a pass with %d tokens of others failed: it is tried alone", len(lanes))
            return decoder.forward(batch)
        return hidden[:num]

    def result(self, coming: Future[T], deadline: float) -> T:
        """What another thread makes; the others have tokens while it takes its time. Raises what
        ends the prefill, ExpiredError."""
        while not wait([coming], min(_LOOK_S, remaining(deadline))).done:
            self.step()
        return coming.result()

    def step(self) -> bool:
        """One more token for the others; False where nobody waits for one. Raises what ends the
        prefill."""
        self._others.check()
        with self._their_turn():
            return self._others.step()

    @contextmanager
    def _their_turn(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
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
