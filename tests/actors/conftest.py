from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A local Ray of this test module's own."""
    ray.init(
        address="local",  # a cluster that something else left running is none of ours
        num_cpus=2,
        object_store_memory=10**8,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
