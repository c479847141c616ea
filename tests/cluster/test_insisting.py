"""Parts of Serve that die while it starts."""

import time

import pytest
from ray.exceptions import ActorDiedError, RayError

from cluster.deploy import insist
from cluster.errors import DeployError


class Dying:
    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error = times, error

    def __call__(self) -> str:
        self.times -= 1
        if self.times >= 0:
            raise self.error
        return "started"


@pytest.mark.parametrize("error", [ActorDiedError(), RayError("lost"), TimeoutError("60 s")])
def test_serve_replaces_what_has_died_and_is_asked_again(error: Exception) -> None:
    assert insist(Dying(2, error), time.monotonic() + 60) == "started"


def test_at_the_deadline_it_is_told_in_a_line_that_serve_does_not_run() -> None:
    dead = Dying(10**6, RayError("The actor died.\n\tclass_name: ProxyActor"))
    with pytest.raises(DeployError) as caught:
        insist(dead, time.monotonic() + 0.1)
    assert str(caught.value) == "Serve: it does not run: The actor died."


def test_what_is_no_death_is_raised_at_once() -> None:
    with pytest.raises(KeyError):
        insist(Dying(1, KeyError("a bug")), time.monotonic() + 60)
