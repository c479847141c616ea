"""Which fused segment each passage of a collection has: the one made in sight of its neighbours.

One immutable table of a version, replaced as a whole. A row lives as long as its passage and all of
its neighbours do: what was made in sight of a deleted text is not handed out any more.
"""

import shutil
import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.messages import Neighbourhood
from actors.retrieval.manifest import VARIANTS, VariantsEntry
from actors.retrieval.storage import Storage, measure, medium
from actors.retrieval.tables import Rows, text_digest
from kvstore.keys import neighbours_digest

TABLE = "variants.parquet"
SCHEMA = pa.schema(
    [
        ("passage", pa.int64()),  # `text_digest`, as the neighbours are
        ("neighbours", pa.list_(pa.int64())),
        ("digest", pa.binary(16)),
    ]
)


class Variants:
    """Thread-safe and immutable. A passage has one row at most."""

    def __init__(self, table: pa.Table | None = None, entry: VariantsEntry | None = None) -> None:
        """`entry`: where the table is published; None where it is not yet."""
        self._table = (SCHEMA.empty_table() if table is None else table).combine_chunks()
        self.entry = entry

    def __len__(self) -> int:
        return cast(int, self._table.num_rows)

    def digest(self, text: str) -> bytes:
        """Of the neighbours that the passage's fused segment was made in sight of, or empty."""
        if not len(self):
            return b""
        row = self._row_of.get(text_digest(text))
        return b"" if row is None else cast(bytes, self._table["digest"][row].as_py())

    def recorded(self, made: Sequence[Neighbourhood]) -> "Variants":
        """With these rows, in place of those that the same passages had."""
        new = {text_digest(one.text): one for one in made}
        rows = {
            "passage": list(new),
            "neighbours": [[text_digest(text) for text in one.neighbours] for one in new.values()],
            "digest": [neighbours_digest(one.neighbours) for one in new.values()],
        }
        kept = self._where(~np.isin(self._passages, list(new)))
        return Variants(pa.concat_tables([kept._table, pa.table(rows, schema=SCHEMA)]))

    def living(self, texts: Rows) -> "Variants":
        """Rows whose passage and neighbours are all among the texts of these digests; itself where
        all are."""
        if not len(self):
            return self
        column = self._table["neighbours"].chunk(0)
        dead = ~np.isin(column.flatten().to_numpy(), texts)
        before = np.concatenate([[0], np.cumsum(dead)])
        bounds = column.offsets.to_numpy() - column.offsets[0].as_py()
        mourning = before[bounds[1:]] > before[bounds[:-1]]
        alive = np.isin(self._passages, texts) & ~mourning
        return self if alive.all() else self._where(alive)

    def lost(self, after: "Variants") -> list[tuple[int, bytes]]:
        """(passage, digest of neighbours) of rows that the later table does not have."""
        if after is self:
            return []
        return sorted(self._pairs - after._pairs)

    @property
    def _passages(self) -> Rows:
        return cast(Rows, self._table["passage"].to_numpy())

    @property
    def _pairs(self) -> set[tuple[int, bytes]]:
        columns = (self._table[name].to_pylist() for name in ("passage", "digest"))
        return set(zip(*columns, strict=True))

    @cached_property
    def _row_of(self) -> dict[int, int]:
        return {passage: row for row, passage in enumerate(self._passages.tolist())}

    def _where(self, kept: "np.typing.NDArray[np.bool_]") -> "Variants":
        return Variants(self._table.filter(pa.array(kept)))

    def published(self, storage: Storage, folder: str) -> "Variants":
        """The same, in the collection's folder; as it is where it is there already, or empty."""
        if self.entry is not None or not len(self):
            return self
        staged, name = storage.staging(), f"{VARIANTS}{uuid.uuid4().hex}"
        try:
            with medium(staged):
                pq.write_table(self._table, staged / TABLE, write_page_checksum=True)
                files = {TABLE: measure(staged / TABLE)}
            storage.publish_folder(staged, f"{folder}/{name}")
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return Variants(self._table, VariantsEntry(name, files))


def open_variants(storage: Storage, folder: str, entry: VariantsEntry | None) -> Variants | None:
    """None when the table was retired."""
    if entry is None:
        return Variants()
    path = storage.open_folder(f"{folder}/{entry.name}", entry.files)
    if path is None:
        return None
    try:
        return Variants(pq.read_table(path / TABLE, schema=SCHEMA), entry)
    except FileNotFoundError:  # retired after its checksum was read
        return None
