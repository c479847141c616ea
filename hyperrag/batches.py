"""Documents in batches that a service takes in one request."""

from collections.abc import Iterable, Iterator

from actors.messages import Document


def batches(
    documents: Iterable[Document], max_documents: int, max_bytes: int
) -> Iterator[list[Document]]:
    """Consecutive runs of at most `max_documents` with at most `max_bytes` of text; a single
    document above `max_bytes` is a batch of its own. Reads no further ahead than one document."""
    batch: list[Document] = []
    used = 0
    for document in documents:
        size = len(document.text.encode("utf-8", "surrogatepass"))
        if batch and (len(batch) == max_documents or used + size > max_bytes):
            yield batch
            batch, used = [], 0
        batch.append(document)
        used += size
    if batch:
        yield batch
