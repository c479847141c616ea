"""The Serve application: five deployments, assembled from the resolved configuration.

Serve imports it as `cluster.app:build` with the configuration as arguments; nothing here computes.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from actors.engine.config import ModelConfig
from cluster.config import HyperRagConfig
from cluster.handles import remote_services
from cluster.ingress.app import create_app
from cluster.ingress.auth import ApiKeys
from cluster.ingress.context import Context, ParseUpload
from cluster.ingress.envelope import log_to_stderr

Deployable = type[Any]

MAX_ONGOING = 4096
"""Far above every part's own bound, so that the part refuses with its own error, in JSON: Serve's
refusal is plain text. The ingress admits at most `ingress.max_queued_requests`."""

ROUTER = "cluster.router:AffinityRouter"

LIFECYCLE: dict[str, Any] = {
    "health_check_period_s": 2.0,
    "health_check_timeout_s": 30.0,
    "graceful_shutdown_timeout_s": 10.0,
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
    cpus = {"num_cpus": place.replica_cpus}
    shared = (config.store, config.run_dir)
    search = _deployment("Retriever", parts.retriever, retrieval.num_replicas, cpus)
    corpus = _deployment("CorpusService", parts.corpus, 1, cpus)
    rank_on = _resources(place.replica_cpus, place.reranker_gpus, models.reranker)
    rank = _deployment("Reranker", parts.reranker, reranker.num_replicas, rank_on)
    write_on = _resources(place.replica_cpus, place.generator_gpus, models.generator)
    write = _deployment("Generator", parts.generator, generator.num_replicas, write_on)
    front = _deployment("Ingress", serve.ingress()(Ingress), ingress.num_replicas, cpus)
    rank, write = (part.options(request_router_config=_by_affinity()) for part in (rank, write))
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
        services = remote_services(retriever, corpus, reranker, generator)
        keys = ApiKeys.from_file(config.ingress.api_keys_file)
        self._context = Context(config, services, keys, parse_upload)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_app(self._context, echo_request_id=False)


def _deployment(
    name: str, part: Deployable, num_replicas: int, resources: dict[str, float]
) -> Deployment:
    decorate: Callable[[Deployable], Deployment] = serve.deployment(
        name=name,
        num_replicas=num_replicas,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options=resources,
        **LIFECYCLE,
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


def _resources(cpus: float, gpus: float, model: ModelConfig) -> dict[str, float]:
    return {"num_cpus": cpus, "num_gpus": gpus if model.device == "cuda" else 0}
