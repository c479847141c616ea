"""What a process knows of the membership while directories come, hang and go."""

import threading
from collections.abc import Iterator

import pytest
import ray

from actors import membership_view
from actors.membership_view import MembershipView
from actors.shard_names import DIRECTORY, NAMESPACE
from cluster.directory import ensure_directory
from kvstore.membership import Member, Membership
from tests.cluster.nodes import Nodes, eventually, nodes
from tests.kvstore.segments import small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]
LATER = Membership(2**62, (Member("b", "b", 100),))


class HangsOnce:
    """A directory that never answers the first question."""

    def __init__(self) -> None:
        self._questions = 0

    def membership(self, known_epoch: int, node_id: str) -> Membership:
        self._questions += 1
        if self._questions == 1:
            threading.Event().wait()
        return LATER


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("one")
    with nodes(small_config(folder, ssd_dir=str(folder / "ssd-{node}"))) as cluster:
        yield cluster


def test_a_directory_in_the_place_of_one_that_is_dead_for_good_is_asked(one: Nodes) -> None:
    view = MembershipView(NAMESPACE)
    assert view.settle(20.0) == one.membership()
    ray.kill(one.directory, no_restart=True)
    eventually(lambda: not _is_there())
    one.directory = ensure_directory(one.config)
    one.settled(1)
    ray.get(one.directory.drain.remote("a"), timeout=20)
    eventually(lambda: view.current().members[0].state == "draining", 30)


def test_a_question_that_is_never_answered_is_asked_again(
    one: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_view, "_ANSWER_S", 0.5)
    hangs_once = ray.remote(max_concurrency=2, num_cpus=0)(HangsOnce)
    handle = hangs_once.options(name=DIRECTORY, namespace="hanging").remote()
    view = MembershipView("hanging")
    eventually(lambda: view.current() == LATER, 30)
    ray.kill(handle)


def _is_there() -> bool:
    try:
        ray.get_actor(DIRECTORY, namespace=NAMESPACE)
    except ValueError:
        return False
    return True
