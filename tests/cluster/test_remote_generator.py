"""Which replica of the generator a prompt goes to, as its caller decides it."""

from collections import Counter
from types import SimpleNamespace

from cluster import replicas
from cluster.remote_generator import RemoteGenerator


def test_who_has_three_quarters_of_the_requests_gets_no_new_one() -> None:
    name = "generator-of-test-remote-generator"
    replicas.learn(name, ("a", "b"))
    idle = RemoteGenerator("generator", SimpleNamespace(deployment_name=name))
    first, other = idle._order(["a passage"])
    busy = RemoteGenerator("generator", idle.handle, Counter({first: 3}))
    assert busy._order(["a passage"]) == (other, first)
