"""Deploys the application through the Serve schema, and waits until it runs or has failed.

Over an application that runs it is a rolling update: Serve replaces replicas as `cluster.app` asks
it to. Of an update that fails nothing stays.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ray import serve
from ray.exceptions import RayError
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
from cluster.errors import DeployError
from cluster.ingress.keys import ApiKeys
from cluster.overview import reason
from cluster.running import require_same_address, require_same_store

T = TypeVar("T")

APP_NAME = "hyperrag"
IMPORT_PATH = "cluster.app:build"
POLL_S = 0.5
"""Asking Serve costs some 50 ms of a core, which the replicas that start need."""

PROXIES_S = 120.0
"""For Serve's proxies to serve an application that runs."""

Progress = Callable[[str], None]
"""Called with a line whenever something changed."""


def serve_schema(config: HyperRagConfig, import_path: str = IMPORT_PATH) -> ServeDeploySchema:
    """What Serve is told, from a resolved configuration."""
    ingress = config.ingress
    return ServeDeploySchema(
        proxy_location="HeadOnly" if ingress.on_loopback else "EveryNode",
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
    """Start Serve in the Ray cluster of this process and return when the application runs. One that
    runs already is updated.

    Raises DeployError with the deployment's own message when one cannot start, and after
    `deadline_s`; an application that ran before then runs again as it was. DeployError also for
    what a running one cannot change, ConfigError for a key file that cannot be used.
    """
    ApiKeys.from_file(config.ingress.api_keys_file)  # better here than in a replica
    require_same_store(config.store)
    schema = serve_schema(config, import_path)
    deadline = time.monotonic() + deadline_s
    start = partial(
        serve_start,
        http_options=schema.http_options.model_dump(),
        proxy_location=schema.proxy_location,
        global_logging_config=schema.logging_config,
    )
    client = insist(start, deadline)
    require_same_address(client.http_config, config.ingress)
    former = _running(insist(client.get_serve_details, deadline))
    client.deploy_apps(schema)
    try:
        _wait(progress, deadline)
    except DeployError as error:
        if former is None:
            raise
        progress(f"{error}; going back to what ran before")
        client.deploy_apps(schema.model_copy(update={"applications": [former]}))
        outcome = "what ran before runs again"
        try:
            _wait(progress, time.monotonic() + deadline_s)
        except DeployError as second:
            outcome = f"what ran before did not come back: {second}"
        raise DeployError(error.what, f"{error.reason} ({outcome})") from error
    insist(partial(client.wait_for_proxies_serving, True), time.monotonic() + PROXIES_S)


def insist(call: Callable[[], T], deadline: float) -> T:
    """The result of a call to Serve, repeated while parts of Serve have died: Serve replaces them,
    among them a proxy that took longer to start than Serve waits, as on a busy machine. Raises
    DeployError after the deadline."""
    while True:
        try:
            return call()
        except (RayError, TimeoutError) as error:
            if time.monotonic() > deadline:
                told = str(error).strip().splitlines() or [type(error).__name__]
                raise DeployError("Serve", f"it does not run: {told[0]}") from error
        time.sleep(POLL_S)


def _running(details: dict[str, Any]) -> ServeApplicationSchema | None:
    """What the application that runs was deployed with; None if there is none, or it is broken."""
    app = details["applications"].get(APP_NAME)
    if app is None or app["status"] != ApplicationStatus.RUNNING:
        return None
    return ServeApplicationSchema.model_validate(app["deployed_app_config"])


def _wait(progress: Progress, deadline: float) -> None:
    told: dict[str, str] = {}
    while True:
        app = insist(serve.status, deadline).applications.get(APP_NAME)
        if app is not None:
            _tell(app, told, progress)
            if app.status == ApplicationStatus.RUNNING:
                return
            _raise_if_failed(app)
        if time.monotonic() > deadline:
            raise DeployError(APP_NAME, f"not running in time; {_awaited(app)}")
        time.sleep(POLL_S)


def _awaited(app: ApplicationStatusOverview | None) -> str:
    """Which deployments are not healthy, with what Serve says about them, such as resources that
    no node has."""
    if app is None:
        return "Serve does not know it yet"
    waiting = {n: d.message for n, d in app.deployments.items() if d.status != "HEALTHY"}
    return "waiting for " + "; ".join(f"{n} ({m})" if m else n for n, m in waiting.items())


def _tell(app: ApplicationStatusOverview, told: dict[str, str], progress: Progress) -> None:
    for name, deployment in app.deployments.items():
        state = str(deployment.status.value)
        if told.get(name) != state:
            told[name] = state
            progress(f"{name}: {state.lower()}")


def _raise_if_failed(app: ApplicationStatusOverview) -> None:
    for name, deployment in app.deployments.items():
        if deployment.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise DeployError(name, reason(deployment.message))
    if app.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
        raise DeployError(APP_NAME, reason(app.message))
