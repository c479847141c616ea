"""What is held when nobody asks for anything any more."""

import time
from collections.abc import Sequence
from typing import Any

from hyperrag import Client
from tests.bench.chaos.load import NOTES

SETTLE_S = 120.0
"""A computation that was lost keeps its claim for a minute."""
_OF_THE_DISK = ("has checksum", "wrong checksum", "Input/output error")


def left_behind(client: Client) -> list[str]:
    """Leases, tickets, places in queues, and what the books of a node do not account for. What the
    check reads of disks that fail on purpose is no news, and left out."""
    give_up = time.monotonic() + SETTLE_S
    while held := _held(client.status()):
        if time.monotonic() > give_up:
            break
        time.sleep(1.0)
    problems: list[str] = client.check()["problems"]
    return held + [text for text in problems if not any(word in text for word in _OF_THE_DISK)]


def lost_documents(client: Client, taken: Sequence[str]) -> list[str]:
    """Those of the notes that are not listed."""
    listed = {info.id for info in client.documents(NOTES)} if taken else set[str]()
    return sorted(set(taken) - listed)


def _held(status: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for node in status["store"]["nodes"]:
        own = node["store"]
        found += [f"{node['name']}: {own[k]} {k}" for k in ("leases", "open_tickets") if own[k]]
    for name, deployment in status["deployments"].items():
        for replica in deployment["replicas"]:
            for place in ("waiting", "active"):
                if replica.get(place):
                    found.append(f"{name}: {replica[place]} {place}")
    return found
