"""A hundred nodes, ten million segments: a simulation, with the placement code that serves.

Segments have random placements and 32 to 256 tokens; nodes have equal capacities. Reported: how
evenly owners share the bytes, what the membership takes in memory (it is all that a directory
holds), what one request's lookup of 20 owners costs, and the traffic when one node is lost and when
one joins, with two owners a segment: how much moves, and how evenly senders and receivers share it.
No network, no clock: what takes time here is the lookup alone.
"""

import argparse
import pickle
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kvstore.membership import Member, Membership, Rendezvous
from tests.bench.harness import Options, Result, tracked

COPIES = 2
CAPACITY = 2**40
TOKEN_BYTES = 30 * 2 * 3 * 64 * 2
"""KV of one token of SmolLM2-135M in bf16."""
PATHS = 20
"""Owners that one request looks up."""

Ranks = NDArray[np.intp]
Floats = NDArray[np.float64]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--segments", type=int, default=10_000_000)


def run(options: Options) -> Result:
    num_nodes = options.own.nodes
    num = options.own.segments // 50 if options.quick else options.own.segments
    rng = np.random.default_rng(options.seed)
    placements = rng.integers(1, 2**63, num, dtype=np.uint64)
    nbytes = rng.integers(32, 257, num).astype(np.float64) * TOKEN_BYTES
    membership = Membership(1, tuple(_member(i) for i in range(num_nodes)), COPIES)
    lost, joined = _member(0), _member(num_nodes)
    fewer = replace(membership, members=membership.members[1:])
    more = replace(membership, members=(*membership.members, joined))
    owners = {}
    for name, one in tracked([("now", membership), ("lost", fewer), ("joined", more)], "ranking"):
        owners[name] = _owners(one, placements)
    load = np.bincount(owners["now"].ravel(), np.repeat(nbytes, COPIES), num_nodes)
    rows = [
        _moved("one node lost", owners["now"], owners["lost"], nbytes, gone=lost),
        _moved("one node joins", owners["now"], owners["joined"], nbytes),
    ]
    figures = {
        "nodes": float(num_nodes),
        "segments": float(num),
        "imbalance": round(float(load.max() / load.mean() - 1), 4),
        "directory_bytes": float(len(pickle.dumps(membership))),
        "lookup_us": round(_lookup_us(membership, placements), 1),
    }
    return Result({"copies": COPIES, "simulated": True}, figures, rows)


def _member(i: int) -> Member:
    return Member(f"{i:056x}", f"node-{i:03}", CAPACITY)


def _owners(membership: Membership, placements: NDArray[np.uint64]) -> Ranks:
    """[segments, copies]: numbers of nodes."""
    weights = {member.name: member.capacity_bytes for member in membership.members}
    rendezvous = Rendezvous(weights)
    numbers = np.array([int(name.removeprefix("node-")) for name in rendezvous.names])
    found: Ranks = numbers[rendezvous.rank(placements, membership.copies)]
    return found


def _moved(
    event: str, before: Ranks, now: Ranks, nbytes: Floats, gone: Member | None = None
) -> dict[str, Any]:
    """What the mover sends: the first former owner that is there, to each new one."""
    absent = -1 if gone is None else int(gone.name.removeprefix("node-"))
    senders = np.where(before[:, 0] == absent, before[:, 1], before[:, 0])
    is_new = (now[:, :, None] != before[:, None, :]).all(2)
    sent = np.bincount(senders, nbytes * is_new.sum(1))
    received = np.bincount(now[is_new], np.repeat(nbytes, is_new.sum(1)))
    return {
        "event": event,
        "moved_share": round(float(sent.sum() / (COPIES * nbytes.sum())), 4),
        "moved_gib": round(float(sent.sum()) / 2**30, 1),
        "sent_max/mean": _unevenness(sent),
        "received_max/mean": _unevenness(received),
    }


def _unevenness(load: NDArray[Any]) -> float:
    taking_part = load[load > 0]
    return round(float(taking_part.max() / taking_part.mean()), 3)


def _lookup_us(membership: Membership, placements: NDArray[np.uint64]) -> float:
    """Of one request's owners, the median of many requests."""
    seconds = []
    for i in range(500):
        own = [int(p).to_bytes(8, "little") for p in placements[i * PATHS : (i + 1) * PATHS]]
        start = time.perf_counter()
        membership.all_owners(own)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6
