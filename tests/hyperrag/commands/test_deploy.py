"""What `deploy` says without a cluster."""

from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cluster.app import build
from cluster.config import HyperRagConfig, load
from tests.hyperrag.test_cli import run

SHIPPED = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_dry_run_prints_what_serve_takes(path: Path) -> None:
    done = run("deploy", "--dry-run", "-c", str(path))
    assert done.returncode == 0, done.stderr
    schema = ServeDeploySchema.model_validate(yaml.safe_load(done.stdout))
    (app,) = schema.applications
    module, name = app.import_path.split(":")
    assert (module, name) == (build.__module__, build.__name__)
    config = HyperRagConfig.parse(app.args)
    assert config == load(path).resolved()
    assert schema.http_options.host == config.ingress.host
    everywhere = config.ingress.host == "0.0.0.0"
    assert schema.proxy_location == ("EveryNode" if everywhere else "HeadOnly")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["serve", "--host", "0.0.0.0"], 2, "without API keys"),
        (["deploy", "-c", "CONFIG"], 2, "without API keys"),
        (["deploy", "-c", "CONFIG", "--insecure", "--dry-run"], 0, "insecure: true"),
        (["deploy", "--address", "127.0.0.1:8"], 3, "no Ray cluster answers at 127.0.0.1:8"),
        (["undeploy", "--address", "127.0.0.1:8"], 3, "no Ray cluster answers at 127.0.0.1:8"),
    ],
)
def test_exit_status_and_message(
    arguments: list[str], status: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "c.yaml").write_text("ingress: {host: 0.0.0.0}\n")
    done = run(*(word.replace("CONFIG", str(tmp_path / "c.yaml")) for word in arguments))
    assert done.returncode == status, done.stderr
    assert words in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr
