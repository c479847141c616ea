"""`python -m kvstore.replay TRACE`: which policy, and how much prefetching is worth."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from kvstore.config import POLICIES, PolicyName
from kvstore.costs import PrefillProfile
from kvstore.errors import StoreConfigError
from kvstore.replay.report import Row, draw, row, table
from kvstore.replay.simulator import Setting, Simulator
from kvstore.replay.trace import LAYOUT, Request, poisson, read_trace, zipf

GENERATED = ("zipf", "drift")
DRIFT_EVERY = 250


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    try:
        requests = _requests(options)
        profile = PrefillProfile.default()
        if options.profile:
            profile = PrefillProfile.read(options.profile)
    except (OSError, ValueError, StoreConfigError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    rows = replay(requests, options, profile)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    if options.png:
        draw(rows, f"{options.trace}: {len(requests)} requests, a simulation", options.png)
    return 0


def replay(
    requests: list[Request], options: argparse.Namespace, profile: PrefillProfile
) -> list[Row]:
    """The first arm, `lru` without prefetch, sets the arrivals of all: `load` x its capacity."""
    first = Setting(
        policy="lru",
        prefetch=False,
        dram_bytes=int(options.dram * 2**30),
        ssd_bytes=int(options.ssd * 2**30),
        ssd_bytes_per_s=bandwidth(requests, options.ssd_ratio, profile),
        lookahead_requests=options.lookahead,
        profile=profile,
    )
    saturated = Simulator(first).run([replace(request, at=0.0) for request in requests])
    rate = options.load * len(requests) / saturated.makespan_s
    arrivals = poisson(requests, rate, options.seed)
    arms = [first]
    arms += [replace(first, policy=name) for name in _policies(options) if name != "lru"]
    if options.prefetch:
        arms += [replace(first, policy=name, prefetch=True) for name in _policies(options)]
    outcomes = [Simulator(arm).run(arrivals) for arm in arms]
    return [row(arm, out, outcomes[0]) for arm, out in zip(arms, outcomes, strict=True)]


def bandwidth(requests: list[Request], ratio: float, profile: PrefillProfile) -> float:
    """Bytes per second at which reading a mean prompt's reusable part takes `ratio` x computing
    the prompt (ALGORITHMS 4.2)."""
    reusable = sum(spec.layout.num_tokens for r in requests for spec in r.path) / len(requests)
    whole = sum(request.num_tokens for request in requests) // len(requests)
    per_token = replace(LAYOUT, num_tokens=1).nbytes
    return reusable * per_token / (ratio * profile.seconds(0, whole))


def _policies(options: argparse.Namespace) -> tuple[PolicyName, ...]:
    return POLICIES if options.policy == "all" else (options.policy,)


def _requests(options: argparse.Namespace) -> list[Request]:
    if options.trace in GENERATED:
        drift_every = DRIFT_EVERY if options.trace == "drift" else 0
        return zipf(options.requests or 2000, options.seed, drift_every=drift_every)
    found = read_trace(Path(options.trace))[: options.requests or None]
    if not found:
        raise ValueError(f"{options.trace} holds no request")
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kvstore.replay", description=__doc__)
    parser.add_argument("trace", help=f"a RAGPulse or Mooncake file, or one of {GENERATED}")
    parser.add_argument("--policy", default="all", choices=["all", *get_args(PolicyName)])
    parser.add_argument("--dram", type=float, default=4.0, help="GiB")
    parser.add_argument("--ssd", type=float, default=64.0, help="GiB")
    parser.add_argument(
        "--ssd-ratio", type=float, default=0.7, help="time to read a prompt / to compute it"
    )
    parser.add_argument("--load", type=float, default=0.9, help="of the first arm's capacity")
    parser.add_argument("--lookahead", type=int, default=4, help="queued requests considered")
    parser.add_argument("--no-prefetch", dest="prefetch", action="store_false")
    parser.add_argument("--requests", type=int, default=0, help="only so many; 0: all")
    parser.add_argument("--profile", type=Path, help="JSON with measured prefill times")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--png", type=Path, help="draw them into this file")
    options = parser.parse_args(arguments)
    for name in ("dram", "ssd", "ssd_ratio", "load"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name.replace('_', '-')} must be above 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
