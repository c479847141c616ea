"""`python -m tests.kvstore.stress --seconds 600 --processes 4`: exit status 1 on a violation."""

import argparse
import sys

from tests.kvstore.stress import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kvstore.stress")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--processes", type=int, default=4, help="clients at a time")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    result = run(options.seconds, options.processes, options.seed)
    for violation in result.violations:
        print(violation)
    print(result)
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
