"""`python -m tests.kvstore.machine --steps 1000000 --processes 2`: exit status 1 on a failure."""

import argparse
import secrets
import sys
import time

from tests.kvstore.machine.driver import Walk
from tests.kvstore.machine.together import walks


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kvstore.machine")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="of the first")
    options = parser.parse_args()
    print(f"machine: steps={options.steps} seed={options.seed}", flush=True)
    began, done = time.monotonic(), Walk()
    for one in walks(options.seed, options.steps, options.processes):
        done += one
        for failure in one.failures:
            print(failure, flush=True)
    rate = done.steps / (time.monotonic() - began)
    print("seen: " + " ".join(f"{name}={n}" for name, n in sorted(done.seen.items())))
    print(f"machine: steps={done.steps} failures={len(done.failures)} steps_per_s={rate:.0f}")
    return 1 if done.failures else 0


if __name__ == "__main__":
    sys.exit(main())
