"""Sources of an answer as the annotations that OpenAI's clients show as links."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from cluster.query import Source

_SCHEMES = ("http://", "https://")


def annotations(sources: Sequence[Source], text: str) -> list[dict[str, Any]]:
    """One for each document, in the order of the sources. An answer does not say which of its words
    come from where: each spans all of it."""
    cited: dict[str, dict[str, Any]] = {}
    for source in sources:
        passage = source.passage
        citation = {
            "start_index": 0,
            "end_index": len(text),
            "url": _url(passage.document_id, passage.metadata),
            "title": str(passage.metadata.get("title") or passage.document_id),
        }
        cited.setdefault(passage.document_id, {"type": "url_citation", "url_citation": citation})
    return list(cited.values())


def _url(document_id: str, metadata: dict[str, Any]) -> str:
    """The document's own, where its metadata has one that is safe to follow."""
    url = metadata.get("url")
    if isinstance(url, str) and url.startswith(_SCHEMES):
        return url
    return f"urn:hyperrag:{quote(document_id, safe='')}"
