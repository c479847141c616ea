"""Deploys the application through the Serve schema, and waits until it runs or has failed."""

import time
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.schema import (
    ApplicationStatus,
    ApplicationStatusOverview,
    HTTPOptionsSchema,
    LoggingConfig,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from cluster.autoscaler import POLICY, policy_kwargs
from cluster.config import HyperRagConfig
from cluster.directory import ensure_directory
from cluster.errors import DeployError
from cluster.ingress.auth import ApiKeys

APP_NAME = "hyperrag"
IMPORT_PATH = "cluster.app:build"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
POLL_S = 0.5
"""Asking Serve costs some 50 ms of a core, which the replicas that start need."""

Progress = Callable[[str], None]
"""Called with a line whenever something changed."""


def serve_schema(config: HyperRagConfig, import_path: str = IMPORT_PATH) -> ServeDeploySchema:
    """What Serve is told, from a resolved configuration."""
    ingress = config.ingress
    return ServeDeploySchema(
        proxy_location="HeadOnly" if ingress.host in LOOPBACK else "EveryNode",
        http_options=HTTPOptionsSchema(host=ingress.host, port=ingress.port),
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
        applications=[
            ServeApplicationSchema(
                name=APP_NAME,
                route_prefix="/",
                import_path=import_path,
                args=config.model_dump(mode="json"),
                autoscaling_policy=_autoscaling_policy(config),
            )
        ],
    )


def _autoscaling_policy(config: HyperRagConfig) -> dict[str, Any] | None:
    if not config.autoscaler.enabled:
        return None
    return {"policy_function": POLICY, "policy_kwargs": policy_kwargs(config)}


def deploy(
    config: HyperRagConfig,
    progress: Progress,
    deadline_s: float = 600.0,
    import_path: str = IMPORT_PATH,
) -> None:
    """Start Serve in the Ray cluster of this process and return when the application runs.

    Raises DeployError with the deployment's own message when one cannot start, and after
    `deadline_s`; ConfigError for a key file that cannot be used.
    """
    ApiKeys.from_file(config.ingress.api_keys_file)  # better here than in a replica
    ensure_directory(config.store)
    schema = serve_schema(config, import_path)
    client = serve_start(
        http_options=schema.http_options.model_dump(),
        proxy_location=schema.proxy_location,
        global_logging_config=schema.logging_config,
    )
    client.deploy_apps(schema)
    _wait(progress, time.monotonic() + deadline_s)
    client.wait_for_proxies_serving(wait_for_applications_running=True)


def undeploy() -> None:
    """Stop the application and Serve itself; requests in progress get their grace period."""
    serve.shutdown()


def _wait(progress: Progress, deadline: float) -> None:
    told: dict[str, str] = {}
    while True:
        app = serve.status().applications.get(APP_NAME)
        if app is not None:
            _tell(app, told, progress)
            if app.status == ApplicationStatus.RUNNING:
                return
            _raise_if_failed(app)
        if time.monotonic() > deadline:
            waiting = [name for name, state in told.items() if state != "HEALTHY"]
            raise DeployError(APP_NAME, f"not running in time; waiting for {', '.join(waiting)}")
        time.sleep(POLL_S)


def _tell(app: ApplicationStatusOverview, told: dict[str, str], progress: Progress) -> None:
    for name, deployment in app.deployments.items():
        state = str(deployment.status.value)
        if told.get(name) != state:
            told[name] = state
            progress(f"{name}: {state.lower()}")


def _raise_if_failed(app: ApplicationStatusOverview) -> None:
    for name, deployment in app.deployments.items():
        if deployment.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise DeployError(name, _reason(deployment.message))
    if app.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
        raise DeployError(APP_NAME, _reason(app.message))


def _reason(message: str) -> str:
    """The exception at the end of a remote traceback; the traceback itself is in Ray's logs."""
    lines = [line for line in message.splitlines() if line.strip()]
    raised = [line for line in lines if not line.startswith(" ")]
    return (raised or lines or ["no reason was given"])[-1].strip()
