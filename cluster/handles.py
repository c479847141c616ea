"""All services of an application, behind its handles."""

from ray.serve.handle import DeploymentHandle

from cluster.overview import Overview
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
    seen = Overview()
    return Services(
        RemoteRetriever("retriever", retriever, overview=seen),
        RemoteCorpus("corpus", corpus, overview=seen),
        RemoteReranker("reranker", reranker, overview=seen),
        RemoteGenerator("generator", generator, overview=seen),
        RemoteStore(),
        RemoteIngress("ingress", ingress),
    )
