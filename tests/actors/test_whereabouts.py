"""Which process reports: the series of one must never be taken for those of another."""

import os

import pytest
import ray

from actors.shard_names import node_name
from actors.whereabouts import whereabouts


def test_outside_of_ray_it_is_the_process() -> None:
    assert whereabouts() == {"replica": str(os.getpid()), "node": ""}


@pytest.mark.ray
def test_actors_of_one_node_tell_each_other_apart(cluster: None) -> None:
    class Reporting:
        def report(self) -> dict[str, str]:
            return whereabouts()

    actor = ray.remote(Reporting).options(num_cpus=0)
    one, two = ray.get([actor.remote().report.remote() for _ in range(2)], timeout=60)
    assert one["replica"] != two["replica"]
    assert one["node"] == two["node"] == node_name(ray.get_runtime_context().get_node_id())
