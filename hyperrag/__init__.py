"""HyperRAG: retrieval-augmented generation that never computes a document KV cache twice."""

from actors.messages import Document
from hyperrag.client import Client
from hyperrag.errors import HyperRagError, UnreachableError
from hyperrag.results import Answer, CacheReport, IngestReport, Ranking, Source

__all__ = [
    "Answer",
    "CacheReport",
    "Client",
    "Document",
    "HyperRagError",
    "IngestReport",
    "Ranking",
    "Source",
    "UnreachableError",
]
