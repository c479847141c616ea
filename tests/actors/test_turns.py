"""Calls of one caller at a time."""

from contextlib import ExitStack

import pytest

from actors.turns import Turns
from kvstore.errors import DeadlineError


def test_a_caller_has_so_many_at_a_time_and_takes_nothing_from_others() -> None:
    turns = Turns(2)
    with ExitStack() as held:
        for caller in ("a", "a", "b"):
            held.enter_context(turns.of(caller))
        with pytest.raises(DeadlineError, match="a has 2 calls"), turns.of("a"):
            pass
        held.enter_context(turns.of("b"))
    with turns.of("a"), turns.of("a"):
        pass
