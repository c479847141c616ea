"""All services of an application, behind its handles."""

from ray.serve.handle import DeploymentHandle

from cluster.remote import RemoteCorpus, RemoteIngress, RemoteRetriever
from cluster.remote_generator import RemoteGenerator
from cluster.remote_reranker import RemoteReranker
from cluster.remote_store import RemoteStore
from cluster.services import Services


def remote_services(
    retriever: DeploymentHandle,
    corpus: DeploymentHandle,
    reranker: DeploymentHandle,
    generator: DeploymentHandle,
    ingress: DeploymentHandle,
) -> Services:
    return Services(
        RemoteRetriever("retriever", retriever),
        RemoteCorpus("corpus", corpus),
        RemoteReranker("reranker", reranker),
        RemoteGenerator("generator", generator),
        RemoteStore(),
        RemoteIngress("ingress", ingress),
    )
