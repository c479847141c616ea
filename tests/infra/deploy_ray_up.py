"""`make test-deploy`: `ray up` on test hosts. Minutes of all cores, hence not of every test run."""

import pytest

from tests.infra.hosts import why_not
from tests.infra.ray_up import HOSTS, recorded

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


@pytest.mark.timeout(1800)
def test_from_nothing_to_an_answer_over_a_lost_worker_to_nothing() -> None:
    events = {event["event"]: event for event in recorded("--lose-a-worker")}
    assert events["answered"]["answer"]
    assert all(num > 0 for num in events["complete"]["processes"].values())
    assert events["answered without it"]["answer"] == events["answered"]["answer"]
    assert events["replaced"]["answer"] == events["answered"]["answer"]
    assert events["down"]["memory_left"] == dict.fromkeys(HOSTS, "")
    assert events["ended"]["processes_left"] == []
