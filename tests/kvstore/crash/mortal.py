"""A store that is used until it is killed: `python -m tests.kvstore.crash.mortal FOLDER SEED`.

Says `ready`, then `stored N...` once the chains of these numbers were flushed, and `removing N`
before it removes the passage of that one.
"""

import random
import sys
from pathlib import Path

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Path as Chain
from tests.kvstore.segments import (
    TRUNK,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
)

NUM_CHAINS = 400


def config_of(folder: Path) -> StoreConfig:
    """Room on the SSD for every chain: nothing goes that was not removed."""
    return small_config(folder, dram_dir=str(folder / "memory"), ssd_bytes=2**26)


def chain(number: int) -> Chain:
    return chain_of(TRUNK, passage(number, 4 + number % 60))


def main(folder: Path, seed: int) -> None:
    config, rng = config_of(folder), random.Random(seed)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    print("ready", flush=True)
    while True:
        numbers = [rng.randrange(NUM_CHAINS) for _ in range(rng.randint(1, 8))]
        unwritten = _unwritten(store)
        acquired = compute(client, *map(chain, numbers))
        assert_right_bytes(client, acquired)
        client.release(acquired.lease_id)
        if store.flush(10) and _unwritten(store) == unwritten:
            print("stored", *numbers, flush=True)
        if rng.random() < 0.3:
            number = rng.randrange(NUM_CHAINS)
            print("removing", number, flush=True)
            client.remove_tags([chain(number)[1].tag])


def _unwritten(store: KVStore) -> int:
    stats = store.stats()
    return stats.ssd.writes_dropped + stats.ssd.write_failures


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
