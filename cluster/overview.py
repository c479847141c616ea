"""What Serve says of the deployments, for those that do not answer."""

import asyncio
from collections.abc import Mapping

from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.schema import DeploymentStatusOverview, ServeStatus

from cluster.ingress.probes import Shared

FRESH_S = 1.0
"""An answer costs some 50 ms of a core, and the replicas that start need it."""


class Overview:
    """Asks Serve's controller, at most once a second."""

    def __init__(self) -> None:
        self._status = Shared[ServeStatus](lambda: asyncio.to_thread(serve.status), FRESH_S)

    async def why_absent(self, app: str, deployment: str) -> str:
        """Why a deployment has no replica that runs, as the end of a sentence about it."""
        try:
            status = await self._status.get()
        except RayServeException:
            return "has no running replica"
        found = status.applications.get(app)
        return why_absent(found.deployments if found else {}, deployment)


def why_absent(deployments: Mapping[str, DeploymentStatusOverview], name: str) -> str:
    found = deployments.get(name)
    if found is None:
        return "has no running replica"
    if found.status == "DEPLOY_FAILED":
        return f"cannot run: {reason(found.message)}"
    return "is starting again" if found.status == "UNHEALTHY" else "is loading"


def reason(message: str) -> str:
    """The exception at the end of a remote traceback; the traceback itself is in Ray's logs."""
    lines = [line for line in message.splitlines() if line.strip()]
    raised = [line for line in lines if not line.startswith(" ")]
    return (raised or lines or ["no reason was given"])[-1].strip()
