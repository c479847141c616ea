"""A corpus on a remote `pyarrow.fs` file system, with a bounded local cache of its parts."""

import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType

from actors.errors import UnavailableError
from actors.retrieval.manifest import PART, VARIANTS
from actors.retrieval.storage import (
    MAX_READ_BYTES,
    FileEntry,
    LocalStorage,
    Storage,
    measure,
    medium,
    require_size,
)

_ABANDONED_S = 3600.0
_UNFINISHED = re.compile(r"\.(staging-[a-z0-9_]{8}|download-[0-9a-f]{32})")
_COPY = re.compile(rf".+-({PART}|{VARIANTS})[0-9a-f]{{32}}")


def open_storage(uri: str, cache_dir: str, cache_bytes: int) -> Storage:
    """Storage of a folder or `file:` URI, else of what `pyarrow.fs` makes of the URI."""
    if not uri:
        raise ValueError("retrieval.corpus_uri is empty, must be a folder or a pyarrow.fs URI")
    if "://" not in uri:
        return LocalStorage(Path(uri).expanduser().absolute())
    if uri.startswith("file://"):
        return LocalStorage(Path(FileSystem.from_uri(uri)[1]))
    if not cache_dir:
        raise ValueError("retrieval.local_cache_dir is empty, must be a folder: the URI is remote")
    try:
        filesystem, root = FileSystem.from_uri(uri)
    except (ValueError, OSError) as error:
        raise ValueError(f"retrieval.corpus_uri {uri!r} cannot be used: {error}") from error
    cache = Path(cache_dir).expanduser().absolute()
    return RemoteStorage(filesystem, root, cache, cache_bytes)


class RemoteStorage:
    """`cache` holds copies of parts, at most `cache_bytes`, least recently opened go first."""

    def __init__(self, filesystem: FileSystem, root: str, cache: Path, cache_bytes: int) -> None:
        self._fs, self._root = filesystem, root.rstrip("/")
        self._cache, self._cache_bytes = cache, cache_bytes

    def read(self, path: str) -> bytes | None:
        with medium(self._root):
            try:
                with self._fs.open_input_file(self._at(path)) as file:
                    require_size(path, file.size())
                    return bytes(file.read(MAX_READ_BYTES))
            except FileNotFoundError:
                return None

    def names(self, folder: str) -> list[str]:
        selector = FileSelector(self._at(folder), allow_not_found=True)
        with medium(self._root):
            return sorted(info.base_name for info in self._fs.get_file_info(selector))

    def publish(self, path: str, data: bytes) -> None:
        with medium(self._root):
            self._fs.create_dir(self._at(path).rsplit("/", 1)[0], recursive=True)
            with self._fs.open_output_stream(self._at(path)) as stream:
                stream.write(data)

    def staging(self) -> Path:
        with medium(self._cache):
            self._cache.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=".staging-", dir=self._cache))

    def publish_folder(self, staged: Path, folder: str) -> None:
        with medium(self._root):
            self._fs.create_dir(self._at(folder), recursive=True)
            for file in sorted(staged.iterdir()):
                with (
                    file.open("rb") as source,
                    self._fs.open_output_stream(self._at(f"{folder}/{file.name}")) as target,
                ):
                    shutil.copyfileobj(source, target, 8 * 2**20)
        shutil.rmtree(staged, ignore_errors=True)

    def open_folder(self, folder: str, files: Mapping[str, FileEntry]) -> Path | None:
        cached = self._cache / folder.replace("/", "-")
        nbytes = sum(entry.nbytes for entry in files.values())
        with medium(self._cache):
            if not _holds(cached, files):
                self._make_room(nbytes)
                if not self._download(folder, files, cached):
                    return None
            os.utime(cached)
        return cached

    def remove(self, path: str) -> None:
        with medium(self._root):
            kind = self._fs.get_file_info(self._at(path)).type
            if kind == FileType.Directory:
                self._fs.delete_dir(self._at(path))
            elif kind == FileType.File:
                self._fs.delete_file(self._at(path))

    def clean(self) -> None:
        """Of what was not finished. Replicas of the node share the cache: what is young may be
        theirs, at work."""
        oldest = time.time() - _ABANDONED_S
        with medium(self._cache):
            for path in self._folders(_UNFINISHED):
                if path.stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)

    def _folders(self, name: re.Pattern[str]) -> list[Path]:
        """Those in the cache that have such names and are no links. The cache may be a folder in
        which others keep things: they are left alone."""
        if not self._cache.is_dir():
            return []
        found = [path for path in self._cache.iterdir() if name.fullmatch(path.name)]
        return [path for path in found if path.is_dir() and not path.is_symlink()]

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _download(self, folder: str, files: Mapping[str, FileEntry], cached: Path) -> bool:
        temporary = self._cache / f".download-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        try:
            for name, entry in files.items():
                if not self._download_file(f"{folder}/{name}", temporary / name, entry):
                    return False
            # Another replica of the node may have been first, or left a damaged copy.
            shutil.rmtree(cached, ignore_errors=True)
            temporary.rename(cached)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return True

    def _download_file(self, path: str, target: Path, entry: FileEntry) -> bool:
        with medium(self._root):
            try:
                source = self._fs.open_input_stream(self._at(path))
            except FileNotFoundError:
                return False
            with source, target.open("wb") as file:
                shutil.copyfileobj(source, file, 8 * 2**20)
        if measure(target) != entry:
            raise UnavailableError(f"{self._at(path)} does not match its checksum: ingest again")
        return True

    def _make_room(self, nbytes: int) -> None:
        """Older copies go. A process that mapped one keeps its bytes until it lets go."""
        if nbytes > self._cache_bytes:
            raise UnavailableError(
                f"a part has {nbytes} bytes, the local cache {self._cache_bytes}: "
                "raise retrieval.local_cache_bytes"
            )
        parts = self._folders(_COPY)
        sizes = {path: sum(f.stat().st_size for f in path.iterdir()) for path in parts}
        for path in sorted(parts, key=lambda p: p.stat().st_mtime):
            if sum(sizes.values()) + nbytes <= self._cache_bytes:
                return
            shutil.rmtree(path, ignore_errors=True)
            del sizes[path]


def _holds(folder: Path, files: Mapping[str, FileEntry]) -> bool:
    try:
        return all(measure(folder / name) == entry for name, entry in files.items())
    except FileNotFoundError:
        return False
