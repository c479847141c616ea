"""The manifest of one version of a collection, and where its files are.

    <tenant digest>/<collection digest>/
        LATEST                       {"version": 7}
        manifest-00000007.json       what follows, under "manifest", with the CRC32C of its text
        part-<id>/documents.parquet, passages.parquet, vectors.faiss
        variants-<id>/variants.parquet    which fused segments there are

A folder's name is a digest: no path is ever built from what a request says.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any

from crc32c import crc32c

from actors.errors import UnavailableError
from actors.retrieval.storage import FileEntry, Storage

FORMAT = 1
LATEST = "LATEST"
MANIFEST = "manifest-"
PART = "part-"
VARIANTS = "variants-"


@dataclass(frozen=True, slots=True)
class PartEntry:
    """An immutable part, and the rows of its document table that this version no longer has."""

    name: str
    num_documents: int
    num_passages: int
    files: Mapping[str, FileEntry]
    dead: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VariantsEntry:
    """An immutable table of the passages' fused segments."""

    name: str
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True)
class Manifest:
    tenant: str
    collection: str
    version: int
    embedder: str
    """Fingerprint of the model that made the vectors."""
    splitter: str
    """Fingerprint of tokenizer and length that made the passages."""
    dim: int
    parts: tuple[PartEntry, ...]
    variants: VariantsEntry | None = None


def tenant_folder(tenant: str) -> str:
    return blake2b(tenant.encode(), digest_size=16, person=b"hyperrag-tenant").hexdigest()


def collection_folder(tenant: str, collection: str) -> str:
    digest = blake2b(collection.encode(), digest_size=16, person=b"hyperrag-corpus").hexdigest()
    return f"{tenant_folder(tenant)}/{digest}"


def manifest_name(version: int) -> str:
    return f"{MANIFEST}{version:08d}.json"


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    """Publish the manifest, then make it current. Its parts must be there already."""
    folder = collection_folder(manifest.tenant, manifest.collection)
    storage.publish(f"{folder}/{manifest_name(manifest.version)}", encode(manifest))
    storage.publish(f"{folder}/{LATEST}", json.dumps({"version": manifest.version}).encode())


def latest_version(storage: Storage, folder: str) -> int:
    """The current version, 0 when there is none.

    Where the pointer is missing or torn (media without rename), the newest whole manifest counts:
    manifests are written when their parts are complete.
    """
    data = storage.read(f"{folder}/{LATEST}")
    try:
        return int(json.loads(data or b"")["version"])
    except (ValueError, KeyError, TypeError):
        present = versions(storage.names(folder))
    whole = (version for version in reversed(present) if _is_whole(storage, folder, version))
    newest = next(whole, 0)
    if present and not newest:
        raise UnavailableError(
            f"corpus folder {folder} has no readable version: restore it, or remove it and "
            "ingest again"
        )
    return newest


def _is_whole(storage: Storage, folder: str, version: int) -> bool:
    try:
        return read_manifest(storage, folder, version) is not None
    except UnavailableError:
        return False


def versions(names: list[str]) -> list[int]:
    """Versions that have a manifest among these names, ascending."""
    numbers = (name.removeprefix(MANIFEST).removesuffix(".json") for name in names)
    return sorted(int(number) for number in numbers if number.isdecimal())


def read_manifest(storage: Storage, folder: str, version: int) -> Manifest | None:
    """None when the version was retired; UnavailableError when its file is damaged."""
    path = f"{folder}/{manifest_name(version)}"
    data = storage.read(path)
    if data is None:
        return None
    try:
        return decode(data)
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(
            f"{path} is damaged ({error}): restore it, or remove its folder and ingest again"
        ) from error


def encode(manifest: Manifest) -> bytes:
    body = _canonical(asdict(manifest))
    return _canonical(
        {"format": FORMAT, "crc32c": crc32c(body.encode()), "manifest": json.loads(body)}
    ).encode()


def decode(data: bytes) -> Manifest:
    """ValueError, KeyError or TypeError when these are not the bytes of a manifest."""
    outer: dict[str, Any] = json.loads(data)
    if outer["format"] != FORMAT:
        raise ValueError(f"format {outer['format']}, this program reads {FORMAT}")
    body: dict[str, Any] = outer["manifest"]
    if crc32c(_canonical(body).encode()) != outer["crc32c"]:
        raise ValueError("checksum mismatch")
    parts = tuple(_part(part) for part in body.pop("parts"))
    found = body.pop("variants", None)
    variants = VariantsEntry(found["name"], _files(found)) if found else None
    return Manifest(parts=parts, variants=variants, **body)


def _part(part: dict[str, Any]) -> PartEntry:
    files, dead = _files(part), tuple(part.pop("dead"))
    del part["files"]
    return PartEntry(files=files, dead=dead, **part)


def _files(entry: dict[str, Any]) -> dict[str, FileEntry]:
    return {name: FileEntry(**facts) for name, facts in entry["files"].items()}


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
