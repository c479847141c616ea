"""One client process: `python -m tests.kvstore.stress.worker ADDRESS DRAM_DIR SEED`.

Acts until SIGTERM, then gives everything back. A wrong byte ends it with a traceback.
"""

import random
import signal
import sys
import threading

from tests.kvstore.acting import Actor
from tests.kvstore.stress.rpc import RemoteClient


def main(address: str, dram_dir: str, seed: int) -> None:
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    client = RemoteClient(address, dram_dir)
    actor = Actor(client, random.Random(seed))
    while not done.is_set():
        actor.act()
    client.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
