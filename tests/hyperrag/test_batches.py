from hypothesis import given
from hypothesis import strategies as st

from actors.messages import Document
from hyperrag.batches import batches

sizes = st.lists(st.integers(min_value=0, max_value=30), max_size=40)


@given(sizes, st.integers(1, 5), st.integers(1, 40))
def test_batches_keep_order_and_bounds(sizes: list[int], documents: int, nbytes: int) -> None:
    given_documents = [Document(str(i), "x" * size) for i, size in enumerate(sizes)]
    made = list(batches(given_documents, documents, nbytes))
    assert [document for batch in made for document in batch] == given_documents
    for batch in made:
        assert 1 <= len(batch) <= documents
        assert len(batch) == 1 or sum(len(document.text) for document in batch) <= nbytes


def test_bytes_are_counted_and_not_characters() -> None:
    documents = [Document("a", "é" * 3), Document("b", "é" * 3)]
    assert [len(batch) for batch in batches(documents, 9, 11)] == [1, 1]
    assert [len(batch) for batch in batches(documents, 9, 12)] == [2]
