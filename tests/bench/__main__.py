"""`python -m tests.bench NAME [--quick] [--json FILE] [--seed N]`: one scenario, one run."""

import argparse
import importlib
import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as in the cluster

from tests.bench.harness import CannotRun, Options, finish

SCENARIOS = (
    "rerank_reuse", "rerank_sweep", "rerank_e2e", "rerank_quality", "rerank_vs_vllm",
    "train_reranker", "answer_quality", "multi_turn", "exactness", "store", "store_faults",
    "codec_error", "store_attack", "device_tier", "ttft", "overlap", "fusion_quality",
    "trace_reuse", "pcr_ladder", "cross_stage", "passage_order", "placement_sim", "cluster",
    "chaos", "ray_up", "rolling_update", "autoscaler_sim", "autoscaler_live", "model_families",
    "isolation", "api_fuzz",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("name", choices=SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", metavar="FILE", help="write the result here")
    parser.add_argument("--seed", type=int, default=0)
    args, rest = parser.parse_known_args()
    scenario = importlib.import_module(f"tests.bench.{args.name}")
    own = argparse.ArgumentParser(prog=f"python -m tests.bench {args.name}")
    getattr(scenario, "add_options", lambda _: None)(own)
    try:
        result = scenario.run(
            Options(args.quick, args.seed, json_path=args.json, own=own.parse_args(rest))
        )
    except CannotRun as reason:
        print(f"{args.name}: cannot run: {reason}", file=sys.stderr)
        return 2
    finish(args.name, result, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
