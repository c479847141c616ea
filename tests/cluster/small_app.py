"""The real Serve application around small parts; `python -m tests.cluster.small_app CONFIG [APP]`
runs it on a local cluster until it is told to stop. Each line that it reads names another CONFIG,
to which it is updated."""

import sys
from typing import Any

from ray.serve import Application

from cluster.app import Parts, assemble
from cluster.config import HyperRagConfig, load
from cluster.deploy import deploy
from cluster.errors import DeployError
from cluster.local import LocalCluster
from tests.cluster.parts import (
    FileCorpus,
    WordGenerator,
    WordReranker,
    WordRetriever,
    parse_lines,
)


def build(args: dict[str, Any]) -> Application:
    config = HyperRagConfig.parse(args)
    return assemble(
        config, Parts(WordRetriever, FileCorpus, WordReranker, WordGenerator, parse_lines)
    )


def main() -> None:
    config = load(sys.argv[1]).resolved()
    print("starting", flush=True)
    with LocalCluster(config):
        app = sys.argv[2] if len(sys.argv) > 2 else "tests.cluster.small_app:build"
        _deploy(config, app)
        print("ready", flush=True)
        for line in sys.stdin:
            try:
                _deploy(load(line.strip()).resolved(), app)
            except DeployError as error:
                print(f"not updated: {error}", flush=True)
            else:
                print("updated", flush=True)


def _deploy(config: HyperRagConfig, app: str) -> None:
    deploy(config, print, deadline_s=240, import_path=app)


if __name__ == "__main__":
    main()
