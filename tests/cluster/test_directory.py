"""The store over three Ray nodes on one machine: shares, flights, losses, arrivals."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray

from actors.cluster_store import ClusterStoreClient
from kvstore.config import StoreConfig
from kvstore.errors import RemovalError
from kvstore.types import Path, SegmentKey
from tests.cluster.answering import Answering
from tests.cluster.nodes import Engine, Nodes, nodes
from tests.kvstore.segments import TRUNK, chain_of, passage, small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATHS = [chain_of(TRUNK, passage(n)) for n in range(1, 25)]
LEAVES = {path[-1].key.digest for path in PATHS}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    config = small_config(folder, ssd_dir=str(folder / "ssd-{node}"), copies_share=1.0)
    with nodes(config, "b", "c") as cluster:
        yield cluster


def test_what_one_node_computed_others_read_wherever_it_lies(three: Nodes) -> None:
    one, two = three.engine("a"), three.engine("b")
    first = ray.get(one.use.remote(*PATHS), timeout=60)
    assert set(first.values()) == {"computed"}
    assert ray.get(one.call.remote("flush", 10.0), timeout=20)
    second = ray.get(two.use.remote(*PATHS), timeout=60)
    own = {path[-1].key.digest for path in three.owned_by("b", PATHS)}
    assert own and own != LEAVES
    assert {second[digest] for digest in own} == {"dram"}, "delivered to its owner"
    assert {second[digest] for digest in LEAVES - own} == {"peer"}
    again = ray.get(two.use.remote(*PATHS), timeout=60)
    assert set(again.values()) == {"dram"}, "copies of its own now"
    reports = {n: ray.get(three.shard(n).report.remote(), timeout=20) for n in "abc"}
    assert all(reports[n].received_bytes > 0 for n in "bc"), "delivered to its owner"
    assert all(reports[n].sent_bytes > 0 for n in "ac"), "read from there by the other"
    assert reports["b"].sent_bytes == 0, "what it asked for itself was sent by others"
    stats = {n: ray.get(three.shard(n).stats.remote(), timeout=20) for n in "ab"}
    assert stats["b"].copies_bytes > 0, "of what it read from others"
    assert stats["a"].copies_bytes > 0, "of what it computed for others"


def test_what_was_computed_for_an_owner_that_is_slow_gets_there_after_its_request(
    three: Nodes,
) -> None:
    """Although the request has ended, and others have needed all of the memory since."""
    one = three.engine("a")
    theirs = three.owned_by("b", [chain_of(TRUNK, passage(n)) for n in range(601, 631)])[:8]
    flood = three.owned_by("a", [chain_of(TRUNK, passage(n)) for n in range(631, 1000)])
    process = ray.get(three.shard("b").process_id.remote(), timeout=20)
    ray.get(one.call.remote("stats"), timeout=60)
    os.kill(process, signal.SIGSTOP)
    try:
        ray.get(one.leave_at_once.remote(*theirs), timeout=60)
        for i in range(0, len(flood), 30):
            ray.get(one.use.remote(*flood[i : i + 30]), timeout=60)
    finally:
        os.kill(process, signal.SIGCONT)
    assert ray.get(one.call.remote("flush", 60.0), timeout=90)
    found = ray.get(three.shard("b").locate.remote([p[-1].key for p in theirs]), timeout=20)
    assert len(found) == len(theirs)


def own_prefixed(three: Nodes, prefix_at: str, passages_at: str, number: int) -> list[Path]:
    """Chains behind one system message of a client's own, kept by other nodes than it is."""
    membership = three.membership()

    def is_at(name: str, placement: bytes) -> bool:
        return membership.owners(placement) == (three.ids[name],)

    heads = (chain_of([t] * 8, own_prefix=True) for t in range(number, number + 100))
    tokens = next(t for t, (s,) in enumerate(heads, number) if is_at(prefix_at, s.key.placement))
    chains = [
        chain_of([tokens] * 8, passage(n), passage(n + 1), own_prefix=True)
        for n in range(number, number + 40)
    ]
    return [path for path in chains if is_at(passages_at, path[1].key.placement)][:6]


def test_a_clients_own_prefix_has_one_owner_and_the_chain_behind_it_another(three: Nodes) -> None:
    paths = own_prefixed(three, prefix_at="b", passages_at="c", number=2000)
    prefix, rest = paths[0][0].key, [spec.key for path in paths for spec in path[1:]]
    owner, engine = three.engine("b"), three.engine("a")
    assert ray.get(owner.use.remote(paths[0][:1]), timeout=60) == {prefix.digest: "computed"}
    first = ray.get(engine.use.remote(*paths), timeout=60)
    assert first.pop(prefix.digest) == "peer" and set(first.values()) == {"computed"}
    assert ray.get(engine.call.remote("flush", 20.0), timeout=30)
    assert has(three, "b", [prefix]) and has(three, "c", rest)
    assert not has(three, "b", rest, some=True)
    kept = {n: ray.get(three.shard(n).kept.remote([prefix, *rest]), timeout=20) for n in "abc"}
    assert kept == {"a": set(), "b": {prefix}, "c": set(rest)}, "each by its owner alone"
    for name, at_prefix, behind in (("b", "dram", "peer"), ("c", "peer", "dram")):
        found = ray.get(three.engine(name).use.remote(*paths), timeout=60)
        assert found[prefix.digest] == at_prefix
        assert {found[key.digest] for key in rest} == {behind}, "behind what was missing, too"
    held = ray.get(three.shard("a").stats.remote(), timeout=20).ssd.num_segments
    assert ray.get(three.shard("a").flush.remote(10.0), timeout=20)
    assert ray.get(three.shard("a").stats.remote(), timeout=20).ssd.num_segments == held
    ray.get(engine.call.remote("announce", "own", paths, 10.0), timeout=20)
    ray.get(engine.call.remote("retire", "own"), timeout=20)
    tags = [path[-1].tag for path in paths]
    ray.get(engine.call.remote("remove_tags", tags), timeout=20)
    for name in "abc":
        assert not has(three, name, [path[-1].key for path in paths], some=True)
    assert has(three, "b", [prefix])
    assert has(three, "c", rest, some=True)
    ray.get(engine.call.remote("remove_tags", [paths[0][0].tag]), timeout=20)
    for name in "abc":
        assert not has(three, name, [prefix, *rest], some=True), "where the prefix never was, too"


def test_a_chain_behind_a_clients_own_prefix_is_computed_once(three: Nodes) -> None:
    paths = own_prefixed(three, prefix_at="b", passages_at="c", number=3000)
    engines = [three.engine(name) for name in "abc"]
    ray.get([engine.call.remote("stats") for engine in engines], timeout=60)
    found = ray.get([engine.use.remote(*paths) for engine in engines], timeout=60)
    for key in {spec.key for path in paths for spec in path}:
        sources = sorted(sources[key.digest] for sources in found)
        assert sources.count("computed") == 1, sources


def has(three: Nodes, name: str, keys: list[SegmentKey], some: bool = False) -> bool:
    """Whether a node has all of them, or some."""
    found = ray.get(three.shard(name).locate.remote(keys), timeout=20)
    return bool(found) if some else len(found) == len(set(keys))


def test_two_nodes_that_miss_it_at_once_compute_it_once(three: Nodes) -> None:
    paths = [chain_of(TRUNK, passage(n)) for n in range(101, 117)]
    engines = [three.engine(name) for name in "abc"]
    ray.get([engine.call.remote("stats") for engine in engines], timeout=60)
    found = ray.get([engine.use.remote(*paths) for engine in engines], timeout=60)
    for path in paths:
        sources = sorted(sources[path[-1].key.digest] for sources in found)
        assert sources.count("computed") == 1, sources


def test_who_dies_with_claims_on_another_node_leaves_them_to_the_next(
    three: Nodes,
) -> None:
    paths = [chain_of(TRUNK, passage(n)) for n in range(201, 209)]
    foreign = three.owned_by("b", paths) + three.owned_by("c", paths)
    doomed, next_one = three.engine("a"), three.engine("c")
    assert ray.get(doomed.claim.remote(*foreign), timeout=60) == len(foreign)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(doomed.die.remote(), timeout=60)
    found = ray.get(next_one.use.remote(*foreign, timeout_s=30.0), timeout=60)
    assert {found[path[-1].key.digest] for path in foreign} == {"computed"}


def test_a_queued_request_has_its_passages_read_where_they_lie(three: Nodes) -> None:
    one = three.engine("a")
    (path,) = three.owned_by("b", [chain_of(TRUNK, passage(n)) for n in range(301, 320)])[:1]
    ray.get(one.use.remote(path), timeout=60)
    assert ray.get(one.call.remote("flush", 10.0), timeout=20)
    before = ray.get(three.shard("b").stats.remote(), timeout=20)
    ray.get(one.call.remote("announce", "request", [path], 10.0), timeout=20)
    ray.get(one.call.remote("retire", "request"), timeout=20)
    assert ray.get(one.call.remote("locate", [path[-1].key]), timeout=20) == {path[-1].key: "dram"}
    assert ray.get(three.shard("b").locate.remote([path[-1].key]), timeout=20)
    assert before.commits > 0


def test_a_deleted_passage_is_gone_from_every_node(three: Nodes) -> None:
    paths = [chain_of(TRUNK, passage(n)) for n in range(401, 409)]
    one, two = three.engine("a"), three.engine("c")
    ray.get(one.use.remote(*paths), timeout=60)
    assert ray.get(one.call.remote("flush", 10.0), timeout=20)
    ray.get(two.use.remote(*paths), timeout=60)
    ray.get(two.call.remote("remove_tags", [path[-1].tag for path in paths]), timeout=20)
    leaves = [path[-1].key for path in paths]
    for name in "abc":
        assert ray.get(three.shard(name).locate.remote(leaves), timeout=20) == {}


class Newcomer(Engine):
    """One that has not heard of any other node."""

    def __init__(self, config: StoreConfig) -> None:
        self._client = ClusterStoreClient(config)


@contextmanager
def silent(process_id: int) -> Iterator[None]:
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


def test_who_has_not_heard_of_the_other_nodes_does_not_say_that_a_passage_is_gone(
    three: Nodes,
) -> None:
    paths = [chain_of(TRUNK, passage(n)) for n in range(1001, 1009)]
    ray.get(three.engine("b").use.remote(*paths), timeout=60)
    assert has(three, "b", [path[-1].key for path in paths])
    tags = [path[-1].tag for path in paths]
    with silent(ray.get(three.directory.process_id.remote(), timeout=20)):
        newcomer = three.engine("a", Newcomer)
        with pytest.raises(RemovalError, match="has not heard of"):
            ray.get(newcomer.call.remote("remove_tags", tags), timeout=60)
    ray.get(newcomer.call.remote("remove_tags", tags), timeout=60)
    for name in "abc":
        assert not has(three, name, [path[-1].key for path in paths], some=True)


@pytest.mark.parametrize(
    ("name", "method", "arguments"),
    [
        ("deadline_s", "acquire", ([PATHS[0]], "soon")),
        ("deadline_s", "wait", ([], None)),
        ("keys", "wait", (5, 1.0)),
        ("lease_id", "release", ([],)),
        ("kept", "trim", (5,)),
        ("tags", "remove_tags", (5,)),
        ("timeout_s", "await_membership", ("soon",)),
        ("timeout_s", "flush", (float("nan"),)),
    ],
)
def test_what_no_caller_may_hand_in_is_refused_by_its_name(
    three: Nodes, name: str, method: str, arguments: tuple[Any, ...]
) -> None:
    client = ClusterStoreClient(three.config)
    try:
        with pytest.raises(ValueError, match=name):
            getattr(client, method)(*arguments)
    finally:
        client.close()


def test_what_is_popular_elsewhere_is_kept_by_its_owner(three: Nodes) -> None:
    """Which sees no more of it than of the rest: another node has copies."""
    one, two = three.engine("a"), three.engine("b")
    own = three.owned_by("c", [chain_of(TRUNK, passage(n)) for n in range(501, 901)])
    popular, forgotten, rest = own[:4], own[4:8], own[8:]
    ray.get(one.use.remote(*popular, *forgotten), timeout=60)
    assert ray.get(one.call.remote("flush", 10.0), timeout=20)
    ray.get(two.use.remote(*popular, *forgotten), timeout=60)
    for _ in range(4):
        assert "peer" not in ray.get(two.use.remote(*popular), timeout=60).values()
    time.sleep(0.5)  # longer than `reap_interval_s`
    for i in range(0, len(rest), 10):  # more than its DRAM holds
        ray.get(one.use.remote(*rest[i : i + 10]), timeout=60)
        assert ray.get(one.call.remote("flush", 10.0), timeout=20)
        ray.get(two.use.remote(*rest[i : i + 10]), timeout=60)
    found = ray.get(three.shard("c").locate.remote([path[-1].key for path in own]), timeout=20)
    assert {found[path[-1].key] for path in popular} == {"dram"}
    assert {found[path[-1].key] for path in forgotten} == {"ssd"}


def test_how_to_prefill_is_chosen_by_what_any_node_has(three: Nodes) -> None:
    """Passages that lie on three nodes: at least one of them is not on the node that asks."""
    one, other = three.engine("b", Answering), three.engine("c", Answering)
    ray.get(one.answer.remote("fusion", 0, 1, 2, 3, 4, 5), timeout=120)
    report = ray.get(other.answer.remote("auto", 0, 1, 2, 3, 4, 5), timeout=120)
    assert report.mode in ("prefix", "fusion") and "(6 cached)" in report.reason
    assert report.peer_hits > 0
