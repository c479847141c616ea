"""Checks of what names and pages a request asks for."""

from actors.errors import RequestError
from actors.retrieval.documents import check_id

MAX_PAGE = 10_000


def check_names(tenant: str, collection: str) -> None:
    """RequestError unless both are printable texts of bounded length."""
    check_id(tenant, "tenant")
    check_id(collection, "collection")


def check_limit(limit: int) -> None:
    """RequestError unless a page can have so many entries."""
    if not 1 <= limit <= MAX_PAGE:
        raise RequestError("limit", f"is {limit}, allowed are 1 to {MAX_PAGE}")
