from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from actors.errors import UnavailableError
from actors.retrieval.embedding import Vectors
from actors.retrieval.index import VectorIndex, overfetch, write_index

DIM = 32


def clustered(n: int, seed: int = 0) -> Vectors:
    """Unit vectors around some centres, as texts of some topics are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((50, DIM))
    vectors = centres[rng.integers(0, 50, n)] + 0.7 * rng.standard_normal((n, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def build(path: Path, vectors: Vectors, ivf_threshold: int) -> VectorIndex:
    def batches() -> Iterator[Vectors]:
        for i in range(0, len(vectors), 700):
            yield vectors[i : i + 700]

    write_index(batches, len(vectors), DIM, ivf_threshold, path)
    return VectorIndex(path)


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("ivf_threshold", "kind"), [(10_000, "IndexFlatIP"), (100, "IndexIVFFlat")]
)
def test_kind_follows_the_threshold_and_is_memory_mapped(
    tmp_path: Path, ivf_threshold: int, kind: str
) -> None:
    path = tmp_path / "vectors.faiss"
    index = build(path, clustered(3000), ivf_threshold)
    assert (index.kind, index.num_vectors) == (kind, 3000)
    assert is_mapped(path)


def test_flat_search_is_exact(tmp_path: Path) -> None:
    vectors, queries = clustered(2000), clustered(5, seed=1)
    nearest = build(tmp_path / "f", vectors, 10_000).search(queries, 10, None)
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    assert (nearest.rows == truth).all()


def test_inverted_file_finds_what_flat_finds(tmp_path: Path) -> None:
    vectors, queries = clustered(20_000), clustered(100, seed=1)
    exact = build(tmp_path / "f", vectors, 100_000).search(queries, 20, None).rows
    fast = build(tmp_path / "i", vectors, 1000).search(queries, 20, None).rows
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(exact, fast, strict=True)])
    assert recall >= 0.95


@pytest.mark.parametrize("ivf_threshold", [10_000, 100])
def test_dead_rows_are_never_found(tmp_path: Path, ivf_threshold: int) -> None:
    vectors = clustered(2000)
    index = build(tmp_path / "x", vectors, ivf_threshold)
    alive = np.random.default_rng(0).random(2000) < 0.3
    rows = index.search(vectors[~alive][:20], 50, alive).rows
    assert (rows >= 0).all() and alive[rows].all()


def test_search_for_more_than_there_is_finds_all_there_is(tmp_path: Path) -> None:
    index = build(tmp_path / "x", clustered(3), 10_000)
    alive = np.array([False, True, False])
    assert index.search(clustered(1), 10, alive).rows.tolist() == [[1]]


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_tiny_inverted_files_work(tmp_path: Path, n: int) -> None:
    index = build(tmp_path / "x", clustered(n), 0)
    assert index.kind == "IndexIVFFlat"
    assert index.search(clustered(n)[:1], 1, None).rows[0, 0] == 0


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0])
def test_overfetching_equals_filtering(share: float) -> None:
    vectors, queries = clustered(1500), clustered(4, seed=1)
    index = faiss.IndexFlatIP(DIM)
    index.add(vectors)
    alive = np.random.default_rng(0).random(1500) < share
    scores = np.where(alive, queries @ vectors.T, -2)
    found = overfetch(index, queries, 10, alive)
    assert (found.rows == np.argsort(-scores, axis=1)[:, : found.rows.shape[1]]).all()
    assert found.rows.shape[1] == min(10, alive.sum())


def test_damaged_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not an index")
    with pytest.raises(UnavailableError, match="no readable index"):
        VectorIndex(tmp_path / "x")
