"""What is killed, and how long the service then takes to be whole again."""

import os
import random
import signal
import time
from collections.abc import Iterator

import ray

from tests.bench.chaos.service import WORKERS, Service

REPLICAS = ("Reranker", "Generator", "Retriever", "CorpusService", "Ingress")
KINDS = ("node", "shard", "directory", *REPLICAS)
RECOVERY_S = 240.0


class NotRecovered(Exception):
    """The message says from what."""


def in_turn(rng: random.Random) -> Iterator[str]:
    """Every kind once before any comes again."""
    while True:
        yield from rng.sample(KINDS, len(KINDS))


def kill(service: Service, kind: str, rng: random.Random) -> None:
    """With SIGKILL; a node with all its processes. A node that was lost is replaced by one of its
    name, which finds its disk."""
    nodes = service.nodes
    if kind == "node":
        name = rng.choice(WORKERS)
        nodes.kill(name)
        nodes.add(name)
        return
    if kind in REPLICAS:
        pid = rng.choice(service.pids(kind))
    else:
        actor = nodes.directory if kind == "directory" else nodes.shard(rng.choice(["a", *WORKERS]))
        pid = ray.get(actor.process_id.remote(), timeout=20)
    os.kill(pid, signal.SIGKILL)


def recover(service: Service, kind: str) -> float:
    """Seconds until the service is whole. Raises NotRecovered."""
    started = time.monotonic()
    time.sleep(2.0)  # for Serve and the directory to notice: until then all seems well
    while lacking := service.lacks():
        if time.monotonic() - started > RECOVERY_S:
            raise NotRecovered(f"{RECOVERY_S:g} s after the loss of a {kind}: {lacking}")
        time.sleep(0.5)
    return time.monotonic() - started
