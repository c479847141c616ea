"""One part's vectors in FAISS: exact while small, an inverted file beyond a threshold.

The file is memory-mapped on load, and its rows are the part's passages. Where FAISS sees a GPU the
index is copied there; GPU indexes take no deletion filter, so more are fetched and filtered here.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from actors.errors import UnavailableError
from actors.retrieval.embedding import Vectors

Batches = Callable[[], Iterator[Vectors]]
_TRAIN_PER_LIST = 64
_PROBES = 64
_RECALL_AT = 20
_RECALL_TARGET = 0.98
_GPU_MAX_K = 2048


@dataclass(frozen=True, slots=True)
class Nearest:
    """Per question, best first: scores float32 [q, n] and rows int64 [q, n], row -1 where none."""

    scores: Vectors
    rows: NDArray[np.int64]


def write_index(batches: Batches, n: int, dim: int, ivf_threshold: int, path: Path) -> None:
    """Build the index of `n` unit vectors, which `batches` yields in order as often as asked."""
    index = _build_ivf(batches, n, dim) if n > ivf_threshold else faiss.IndexFlatIP(dim)
    for vectors in batches():
        index.add(vectors)
    if n > ivf_threshold:
        index.nprobe = _choose_nprobe(index, batches, n)
    # FAISS's own file writer does not report a full disk when its last buffer is flushed.
    with path.open("wb") as file:
        file.write(faiss.serialize_index(index).data)


class VectorIndex:
    """Read-only; searches may run in several threads."""

    def __init__(self, path: Path) -> None:
        try:
            self._index = faiss.read_index(str(path), _mmap_flag(path))
        except RuntimeError as error:
            raise UnavailableError(f"{path} is no readable index: ingest again") from error
        self._on_gpu = bool(faiss.get_num_gpus())
        if self._on_gpu:
            self._resources = faiss.StandardGpuResources()
            self._index = faiss.index_cpu_to_gpu(self._resources, 0, self._index)

    @property
    def num_vectors(self) -> int:
        return int(self._index.ntotal)

    @property
    def kind(self) -> str:
        return type(self._index).__name__

    def search(self, queries: Vectors, top_n: int, alive: NDArray[np.bool_] | None) -> Nearest:
        """Best rows for unit vectors [q, dim]; with `alive` [n], only among these rows."""
        if self._on_gpu and alive is not None:
            return overfetch(self._index, queries, top_n, alive)
        selector = None
        if alive is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(alive, bitorder="little"))
        wanted = min(top_n, self.num_vectors if alive is None else int(alive.sum()))
        if not wanted:
            empty = (len(queries), 0)
            return Nearest(np.empty(empty, np.float32), np.empty(empty, np.int64))
        if isinstance(self._index, faiss.IndexIVF):
            return self._probe(queries, wanted, selector)
        params = faiss.SearchParameters(sel=selector) if selector else None
        return Nearest(*self._index.search(queries, wanted, params=params))

    def _probe(self, queries: Vectors, wanted: int, selector: Any) -> Nearest:
        """Probe more lists than measured for, where those do not hold as many rows as wanted."""
        nprobe = self._index.nprobe
        while True:
            params = faiss.SearchParametersIVF(sel=selector, nprobe=nprobe)
            nearest = Nearest(*self._index.search(queries, wanted, params=params))
            if nprobe >= self._index.nlist or (nearest.rows >= 0).all():
                return nearest
            nprobe = min(2 * nprobe, self._index.nlist)


def overfetch(index: Any, queries: Vectors, top_n: int, alive: NDArray[np.bool_]) -> Nearest:
    """Search without a filter, for more and more rows until enough of them are alive."""
    limit = min(index.ntotal, _GPU_MAX_K)
    wanted = min(top_n, int(alive.sum()), limit)
    k = min(limit, 2 * max(wanted, 1))
    while True:
        scores, rows = index.search(queries, k)
        kept = (rows >= 0) & alive[np.maximum(rows, 0)]
        if k == limit or bool((kept.sum(axis=1) >= wanted).all()):
            break
        k = min(limit, 4 * k)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :wanted]
    found = np.take_along_axis(np.where(kept, rows, -1), order, axis=1)
    return Nearest(np.take_along_axis(scores, order, axis=1), found)


def _mmap_flag(path: Path) -> int:
    """Inverted lists and flat codes are mapped by different readers of FAISS."""
    with path.open("rb") as file:
        kind = file.read(4)
    flag = faiss.IO_FLAG_MMAP if kind.startswith(b"Iw") else faiss.IO_FLAG_MMAP_IFC
    return int(flag)


def _build_ivf(batches: Batches, n: int, dim: int) -> Any:
    nlist = max(1, min(int(4 * math.sqrt(n)), n // 4))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, nlist, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.train(_sample(batches, n, _TRAIN_PER_LIST * nlist))
    return index


def _sample(batches: Batches, n: int, wanted: int) -> Vectors:
    """Evenly spread over the part, so that every build of the same part is the same."""
    step = -(-n // wanted)
    rows: list[Vectors] = []
    seen = 0
    for vectors in batches():
        rows.append(vectors[(-seen) % step :: step])
        seen += len(vectors)
    return np.ascontiguousarray(np.concatenate(rows))


def _choose_nprobe(index: Any, batches: Batches, n: int) -> int:
    """The fewest lists, by doubling, that find the nearest of sampled vectors often enough."""
    probes = _sample(batches, n, _PROBES)
    exact = faiss.IndexFlatIP(index.d)
    best = faiss.ResultHeap(len(probes), _RECALL_AT, keep_max=True)
    seen = 0
    for vectors in batches():
        exact.reset()
        exact.add(vectors)
        scores, rows = exact.search(probes, min(_RECALL_AT, len(vectors)))
        best.add_result(scores, rows + seen)
        seen += len(vectors)
    best.finalize()
    nprobe = max(1, int(index.nlist) // 32)
    while nprobe < index.nlist:
        params = faiss.SearchParametersIVF(nprobe=nprobe)
        found = index.search(probes, _RECALL_AT, params=params)[1]
        hits = sum(np.isin(row, truth).sum() for row, truth in zip(found, best.I, strict=True))
        if hits >= _RECALL_TARGET * best.I.size:
            return nprobe
        nprobe *= 2
    return int(index.nlist)
