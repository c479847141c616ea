"""`python -m tests.gpu NAME [--quick] [--json FILE] [--seed N]`: one scenario on a CUDA device."""

import argparse
import importlib
import sys

import torch

from tests.bench.harness import CannotRun, Options, finish

SCENARIOS = ("rerank", "fusion")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("name", choices=SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        if not torch.cuda.is_available():
            raise CannotRun(f"needs a CUDA device, and torch {torch.__version__} sees none")
        scenario = importlib.import_module(f"tests.gpu.{args.name}")
        result = scenario.run(Options(quick=args.quick, seed=args.seed, json_path=args.json))
    except CannotRun as reason:
        print(f"{args.name}: cannot run: {reason}", file=sys.stderr)
        return 2
    finish(args.name, result, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
