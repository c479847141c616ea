"""serveConfigV2 of each overlay, made from its file in configs/ by the code that deploys.

`python -m tests.infra.serve_config` writes them anew; a test compares what is committed.
"""

import textwrap
from typing import Any

import yaml

from cluster.config import load
from cluster.deploy import serve_schema
from tests.tracked import ROOT

KUBERAY = ROOT / "infra" / "kuberay"
OVERLAYS = ("one-gpu", "eight-gpus", "many-nodes")
HEAD = """\
# Made from configs/kuberay-{overlay}.yaml by `python -m tests.infra.serve_config`.
apiVersion: ray.io/v1
kind: RayService
metadata:
  name: hyperrag
spec:
  serveConfigV2: |
"""


def serve_config(overlay: str) -> dict[str, Any]:
    """What Serve is told, as plain data."""
    config = load(ROOT / "configs" / f"kuberay-{overlay}.yaml", environ={}).resolved({})
    told: dict[str, Any] = serve_schema(config).model_dump(mode="json", exclude_unset=True)
    return told


def patch(overlay: str) -> str:
    told = yaml.safe_dump(serve_config(overlay), sort_keys=False, width=10_000)
    return HEAD.format(overlay=overlay) + textwrap.indent(told, 4 * " ")


if __name__ == "__main__":
    for name in OVERLAYS:
        (KUBERAY / "overlays" / name / "serve.yaml").write_text(patch(name))
