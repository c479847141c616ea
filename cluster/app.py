"""The Serve application: five deployments, assembled from the resolved configuration.

Serve imports it as `cluster.app:build` with the configuration as arguments; nothing here computes.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client.metrics_core import Metric
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from actors.engine.config import ModelConfig
from actors.whereabouts import whereabouts
from cluster.config import HyperRagConfig
from cluster.directory import ensure_directory
from cluster.handles import remote_services
from cluster.ingress.app import create_app
from cluster.ingress.context import Context, ParseUpload
from cluster.ingress.keys import KeyFile
from cluster.ingress.logline import log_to_stderr
from cluster.metrics.request import Instruments

Deployable = type[Any]

MAX_ONGOING = 4096
"""Far above every part's own bound, so that the part refuses with its own error, in JSON: Serve's
refusal is plain text. The ingress admits at most `ingress.max_queued_requests`."""

ROUTER = "cluster.router:AffinityRouter"

LIFECYCLE: dict[str, Any] = {
    "health_check_period_s": 2.0,
    "health_check_timeout_s": 30.0,
    "graceful_shutdown_wait_loop_s": 0.2,
    "max_constructor_retry_count": 2,
}
"""A replica that was killed is noticed within two seconds; one that cannot start is tried twice."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The plain classes behind the deployments, and the reader of uploaded files."""

    retriever: Deployable
    corpus: Deployable
    reranker: Deployable
    generator: Deployable
    parse_upload: ParseUpload


def build(args: dict[str, Any]) -> Application:
    """The application Serve deploys; `args` is a resolved configuration, as a mapping."""
    from actors.corpus_writer import CorpusService
    from actors.generator import Generator
    from actors.reranker import Reranker
    from actors.retrieval.readers import parse_upload
    from actors.retriever import Retriever

    config = HyperRagConfig.parse(args)
    return assemble(config, Parts(Retriever, CorpusService, Reranker, Generator, parse_upload))


def assemble(config: HyperRagConfig, parts: Parts) -> Application:
    """The deployments, each bound to its own part of the configuration."""
    retrieval, reranker, generator = config.retrieval, config.reranker, config.generator
    models, place, ingress = config.models, config.placement, config.ingress
    shared = (config.store, config.run_dir)
    limits = (ingress.request_timeout_s, ingress.stream_timeout_s, ingress.ingest_timeout_s)
    made = partial(_deployment, longest_s=max(limits))
    cpus = _resources(place.replica_cpus, place.cpu_labels)
    search = made("Retriever", parts.retriever, retrieval.num_replicas, cpus)
    # The writer locks the corpus: its successor can start only when it has ended.
    corpus = made("CorpusService", parts.corpus, 1, cpus, surge_percent=0)
    front = made("Ingress", serve.ingress()(Ingress), ingress.num_replicas, cpus)
    engine = partial(
        made, surge_percent=place.max_surge_percent, request_router_config=_by_affinity()
    )
    rank_on = _with_model(place.replica_cpus, place.reranker_gpus, models.reranker)
    rank = engine("Reranker", parts.reranker, reranker.num_replicas, rank_on)
    write_on = _with_model(place.replica_cpus, place.generator_gpus, models.generator)
    write = engine("Generator", parts.generator, generator.num_replicas, write_on)
    if config.autoscaler.enabled:
        rank = _scaled(rank, reranker.num_replicas, max(s.rerank for s in config.splits), config)
        write = _scaled(
            write, generator.num_replicas, max(s.generate for s in config.splits), config
        )
    root = front.bind(
        config,
        parts.parse_upload,
        search.bind(retrieval),
        corpus.bind(retrieval, models.reranker, config.engine),
        rank.bind(models.reranker, config.prompt, config.engine, reranker, *shared),
        write.bind(models.generator, config.prompt, config.engine, generator, *shared),
    )
    assert isinstance(root, Application)
    return root


class Ingress:
    """The HTTP side of one process. Holds no state: any of them can be killed."""

    def __init__(
        self,
        config: HyperRagConfig,
        parse_upload: ParseUpload,
        retriever: DeploymentHandle,
        corpus: DeploymentHandle,
        reranker: DeploymentHandle,
        generator: DeploymentHandle,
    ) -> None:
        log_to_stderr()
        replica = serve.get_replica_context()
        own = serve.get_deployment_handle(replica.deployment, replica.app_name)
        ensure_directory(config.store)  # whoever deployed: `hyperrag`, `serve deploy`, an operator
        services = remote_services(retriever, corpus, reranker, generator, own)
        keys = KeyFile(config.ingress.api_keys_file)
        instruments = Instruments(whereabouts()["replica"], config.ingress.max_queued_requests)
        self._context = Context(config, services, keys, parse_upload, instruments)

    async def families(self) -> list[Metric]:
        """What this replica has counted, for the one that was asked for the metrics."""
        return self._context.instruments.families()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_app(self._context, echo_request_id=False)


def _deployment(
    name: str,
    part: Deployable,
    num_replicas: int,
    actor_options: dict[str, Any],
    longest_s: float,
    surge_percent: int = 100,
    **options: Any,
) -> Deployment:
    """`longest_s`: how long a request may take, which a replica that is replaced is left to end.
    `surge_percent`: replicas beyond their number whom it may wait for, running, before it ends."""
    decorate: Callable[[Deployable], Deployment] = serve.deployment(
        name=name,
        num_replicas=num_replicas,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options=actor_options,
        graceful_shutdown_timeout_s=longest_s,
        max_surge_percent=surge_percent,
        **LIFECYCLE,
        **options,
    )
    return decorate(part)


def _scaled(part: Deployment, initial: int, most: int, config: HyperRagConfig) -> Deployment:
    """With a number of replicas that `cluster.autoscaler` says: Serve's own delays are its ticks
    and cooldown already."""
    scaler = config.autoscaler
    with warnings.catch_warnings():  # "will be replaced" by an environment variable without effect
        warnings.filterwarnings("ignore", ".*metrics_interval_s", DeprecationWarning)
        scaling = AutoscalingConfig(
            min_replicas=1,
            initial_replicas=initial,
            max_replicas=most,
            metrics_interval_s=scaler.tick_s,
            look_back_period_s=scaler.window_s,
            upscale_delay_s=0.0,
            downscale_delay_s=0.0,
        )
    return part.options(
        num_replicas=None,
        autoscaling_config=scaling,
        graceful_shutdown_timeout_s=scaler.drain_s,
    )


def _by_affinity() -> RequestRouterConfig:
    return RequestRouterConfig(request_router_class=ROUTER)


def _resources(cpus: float, labels: dict[str, str]) -> dict[str, Any]:
    return {"num_cpus": cpus, **({"label_selector": labels} if labels else {})}


def _with_model(cpus: float, gpus: float, model: ModelConfig) -> dict[str, Any]:
    return {"num_cpus": cpus, "num_gpus": gpus if model.device == "cuda" else 0}
