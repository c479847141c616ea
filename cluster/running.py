"""A Ray cluster that somebody else started: attach to it, where it answers, take it down again."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import ray
from ray import serve
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import canonicalize_bootstrap_address_or_die, extract_ip_port
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.util import list_named_actors

from actors.shard_names import DIRECTORY, NAMESPACE
from cluster.errors import DeployError, NoClusterError
from cluster.ingress.config import IngressConfig
from kvstore.config import StoreConfig

CLOSE_S = 10.0
_ANSWER_S = 10.0
_REMEDY = "run `hyperrag undeploy` first; the corpus, and segments on SSD, stay"

_log = logging.getLogger("hyperrag.running")


@contextmanager
def attached(address: str) -> Iterator[None]:
    """This process as a driver of the cluster at HOST:PORT, or "auto": the one of this machine.
    Where there is a token, it is presented, as `ray start` demands it.

    Raises NoClusterError when none answers there.
    """
    try:
        gcs = canonicalize_bootstrap_address_or_die(address)
        host, port = extract_ip_port(gcs)
        socket.create_connection((host, port), _ANSWER_S).close()  # Ray would try for ten minutes
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        ray.init(address=gcs, namespace=NAMESPACE, logging_level="ERROR", log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise NoClusterError(address, str(error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def service_urls(ingress: IngressConfig) -> list[str]:
    """Where the service answers: on the head's loopback, or on every node that has a replica."""
    if ingress.on_loopback:
        return [f"http://{ingress.host}:{ingress.port}"]
    addresses = {str(node["NodeID"]): str(node["NodeManagerAddress"]) for node in ray.nodes()}
    proxies = serve.status().proxies
    return [f"http://{addresses[node_id]}:{ingress.port}" for node_id in proxies]


def require_same_store(store: StoreConfig) -> None:
    """Raises DeployError when shards run with other settings: they would not follow these."""
    try:
        directory = ray.get_actor(DIRECTORY, NAMESPACE)
    except ValueError:  # there is none yet
        return
    running = asdict(ray.get(directory.settings.remote(), timeout=_ANSWER_S))
    asked = asdict(store)
    other = [f"{key} = {running[key]!r}" for key in asked if running[key] != asked[key]]
    if other:
        raise DeployError("store", f"it runs with {', '.join(other)}; {_REMEDY}")


def require_same_address(there: HTTPOptions, ingress: IngressConfig) -> None:
    """Raises DeployError when Serve listens elsewhere already: it does not move."""
    if (there.host, there.port) != (ingress.host, ingress.port):
        raise DeployError("ingress", f"Serve listens on {there.host}:{there.port}; {_REMEDY}")


def undeploy() -> None:
    """Stop the application, Serve and the store. Requests in progress get their grace period, and
    what is queued for the SSD is written."""
    serve.shutdown()
    end_actors()


def end_actors() -> None:
    """The directory first: it would start shards again. A shard that closes gives its memory
    back."""
    named = set(list_named_actors())
    for group in (named & {DIRECTORY}, named - {DIRECTORY}):
        _end(sorted(group))


def _end(names: list[str]) -> None:
    closing = {}
    for name in names:
        try:
            actor = ray.get_actor(name)
        except ValueError:  # it ended in the meantime
            continue
        closing[name] = (actor, actor.close.remote(CLOSE_S))
    for name, (actor, closed) in closing.items():
        try:
            ray.get(closed, timeout=CLOSE_S + 1.0)
        except RayError as error:
            _log.warning("actor %s: %s", name, error)
        ray.kill(actor)
