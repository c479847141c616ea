"""One store in a process of its own: `python -m tests.kvstore.stress.server ADDRESS CONFIG`.

CONFIG is a StoreConfig as JSON. Prints a line once it serves; ends when its input does.
"""

import json
import sys

from kvstore.config import StoreConfig
from kvstore.store import KVStore
from tests.kvstore.stress.rpc import StoreServer


def main(address: str, config: str) -> None:
    store = KVStore(StoreConfig(**json.loads(config)), "node")
    server = StoreServer(store, address)
    print("serves", flush=True)
    sys.stdin.read()
    server.close()
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
