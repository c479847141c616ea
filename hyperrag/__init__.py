"""HyperRAG: retrieval-augmented generation that never computes a document KV cache twice."""

from hyperrag.shadowing import refuse_shadows

refuse_shadows()  # before anything is imported by a name that it looks at

from actors.messages import Document  # noqa: E402
from hyperrag.client import Client  # noqa: E402
from hyperrag.errors import HyperRagError, SettingError, UnreachableError  # noqa: E402
from hyperrag.results import (  # noqa: E402
    Answer,
    CacheReport,
    Candidates,
    IngestReport,
    Ranking,
    Source,
)

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
