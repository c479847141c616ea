"""A store whose SSD has everything and whose DRAM is empty."""

from collections.abc import Iterator

import pytest

from kvstore.config import StoreConfig
from tests.kvstore.store.streaming import Disk


@pytest.fixture
def disk(config: StoreConfig) -> Iterator[Disk]:
    disk = Disk(config)
    yield disk
    disk.close()
