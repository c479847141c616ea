"""HyperRAG: retrieval-augmented generation that never computes a document KV cache twice."""

from actors.messages import Document
from hyperrag.client import Client
from hyperrag.errors import HyperRagError, SettingError, UnreachableError
from hyperrag.results import Answer, CacheReport, Candidates, IngestReport, Ranking, Source

__all__ = [
    "Answer",
    "CacheReport",
    "Candidates",
    "Client",
    "Document",
    "HyperRagError",
    "IngestReport",
    "Ranking",
    "SettingError",
    "Source",
    "UnreachableError",
]
