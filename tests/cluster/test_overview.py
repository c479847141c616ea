"""Why a deployment has no replica, in a line."""

import pytest
from ray.serve._private.common import DeploymentStatus, DeploymentStatusTrigger
from ray.serve.schema import DeploymentStatusOverview

from cluster.overview import why_absent

TRACE = "failed 2 times:\n  File x\nactors.errors.RequestError: source: there is no such model\n"


@pytest.mark.parametrize(
    ("status", "message", "why"),
    [
        ("UPDATING", "", "is loading"),
        ("UPSCALING", "", "is loading"),
        ("HEALTHY", "", "is loading"),
        (
            "DEPLOY_FAILED",
            TRACE,
            "cannot run: actors.errors.RequestError: source: there is no such model",
        ),
        ("UNHEALTHY", "A replica's health check failed.", "is starting again"),
    ],
)
def test_what_starts_is_loading_and_what_failed_says_why(
    status: str, message: str, why: str
) -> None:
    trigger = DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
    found = DeploymentStatusOverview(DeploymentStatus(status), trigger, {}, message)
    assert why_absent({"Generator": found}, "Generator") == why


def test_what_serve_does_not_know_has_no_replica() -> None:
    assert why_absent({}, "Generator") == "has no running replica"
