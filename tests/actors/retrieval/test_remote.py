import os
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from actors.errors import UnavailableError
from actors.retrieval.manifest import LATEST, collection_folder
from actors.retrieval.remote import RemoteStorage, open_storage
from actors.retrieval.storage import MAX_READ_BYTES, LocalStorage, Storage
from tests.actors.retrieval.support import (
    BagOfWords,
    animals,
    found_ids,
    make_reader,
    make_writer,
)


def remote(tmp_path: Path, cache: str, cache_bytes: int = 2**30) -> RemoteStorage:
    """A real `pyarrow.fs` file system, reached only through its interface."""
    root = str(tmp_path / "bucket")
    return RemoteStorage(LocalFileSystem(), root, tmp_path / cache, cache_bytes)


def test_corpus_on_a_remote_file_system(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, remote(tmp_path, "w"), max_parts=2)
    for name in ("cat", "dog", "eel", "fox"):
        writer.ingest("t", "c", animals(name))
    writer.delete("t", "c", ["eel"])
    reader = make_reader(tmp_path, remote(tmp_path, "r"))
    assert sorted(found_ids(reader, "animal")) == ["cat", "dog", "fox"]
    assert not list((tmp_path / "w").glob(".staging-*"))
    assert not list((tmp_path / "r").glob(".download-*"))
    again = make_writer(tmp_path, remote(tmp_path, "w2"))
    assert again.ingest("t", "c", animals("cat")).unchanged == 1


def test_damaged_copy_in_the_cache_is_replaced(tmp_path: Path) -> None:
    make_writer(tmp_path, remote(tmp_path, "w")).ingest("t", "c", animals("cat"))
    assert found_ids(make_reader(tmp_path, remote(tmp_path, "r")), "cat") == ["cat"]
    (copy,) = (tmp_path / "r").glob("*/vectors.faiss")
    copy.write_bytes(b"x" + copy.read_bytes()[1:])
    assert found_ids(make_reader(tmp_path, remote(tmp_path, "r")), "cat") == ["cat"]


def test_damaged_original_is_a_clear_error(tmp_path: Path) -> None:
    make_writer(tmp_path, remote(tmp_path, "w")).ingest("t", "c", animals("cat"))
    (original,) = (tmp_path / "bucket" / collection_folder("t", "c")).glob("part-*/*.faiss")
    original.write_bytes(b"x" + original.read_bytes()[1:])
    reader = make_reader(tmp_path, remote(tmp_path, "r"))
    with pytest.raises(UnavailableError, match="does not match its checksum"):
        found_ids(reader, "cat")


def test_cache_is_bounded_by_removing_older_parts(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, remote(tmp_path, "w"))
    for collection in ("c", "d", "e"):
        writer.ingest("t", collection, animals("cat"))
    one = sum(f.stat().st_size for f in (tmp_path / "bucket").rglob("part-*/*")) // 3
    reader = make_reader(tmp_path, remote(tmp_path, "r", 2 * one + 100))
    for collection in ("c", "d", "e", "c"):
        assert found_ids(reader, "cat", collection=collection) == ["cat"]
    assert len([p for p in (tmp_path / "r").iterdir() if p.is_dir()]) <= 2
    small = make_reader(tmp_path, remote(tmp_path, "s", one // 2))
    with pytest.raises(UnavailableError, match="raise retrieval.local_cache_bytes"):
        found_ids(small, "cat")


def test_pointer_torn_on_a_medium_without_rename(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, remote(tmp_path, "w"))
    writer.ingest("t", "c", animals("cat"))
    (tmp_path / "bucket" / collection_folder("t", "c") / LATEST).write_bytes(b"")
    again = make_writer(tmp_path, remote(tmp_path, "w"))
    assert again.ingest("t", "c", animals("dog")).version == 2
    query = BagOfWords().embed(["animal"])
    reader = make_reader(tmp_path, remote(tmp_path, "r"))
    assert len(reader.search("t", "c", query, 5).found[0]) == 2


def test_uri_chooses_the_storage(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"file://{tmp_path}"):
        storage = open_storage(uri, "", 1)
        assert isinstance(storage, LocalStorage) and storage.root == tmp_path
    assert isinstance(open_storage("mock://bucket/a", str(tmp_path), 1), RemoteStorage)


@pytest.mark.parametrize(
    ("uri", "cache", "message"),
    [
        ("", "", "corpus_uri is empty"),
        ("mock://bucket", "", "local_cache_dir is empty"),
        ("nonsense://bucket", "/tmp", "cannot be used"),
    ],
)
def test_settings_that_cannot_work(uri: str, cache: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_storage(uri, cache, 1)


def test_only_copies_of_parts_leave_the_cache(tmp_path: Path) -> None:
    """The configured cache may be a folder in which somebody keeps other things."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_bytes(b"mine")
    strangers = [tmp_path / "r" / name for name in (".ssh", "thesis", ".staging-x", "a-part-1")]
    for folder in strangers:
        folder.mkdir(parents=True)
        (folder / "mine").write_bytes(b"mine" * 1000)
        os.utime(folder, (0, 0))
    (tmp_path / "r" / "file").write_bytes(b"mine")
    link = tmp_path / "r" / f"t-c-part-{'0' * 32}"
    link.symlink_to(tmp_path / "elsewhere")
    ours = [tmp_path / "r" / f"t-c-part-{'1' * 32}", tmp_path / "r" / f".download-{'1' * 32}"]
    for folder in ours:
        folder.mkdir()
        (folder / "old").write_bytes(b"x" * 100)
        os.utime(folder, (0, 0))
    writer = make_writer(tmp_path, remote(tmp_path, "w"))
    writer.ingest("t", "c", animals("cat"))
    one = sum(f.stat().st_size for f in (tmp_path / "bucket").rglob("part-*/*"))
    storage = remote(tmp_path, "r", one + 10)
    storage.clean()
    assert found_ids(make_reader(tmp_path, storage), "cat") == ["cat"]
    assert not any(folder.exists() for folder in ours)
    assert all((folder / "mine").is_file() for folder in (*strangers, tmp_path / "elsewhere"))
    assert (tmp_path / "r" / "file").is_file() and link.is_symlink()


def test_a_writer_that_crashed_is_cleaned_up_after_and_nobody_else(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    staged = storage.staging()
    (tmp_path / ".staging" / "mine").write_bytes(b"mine")
    (tmp_path / ".staging" / "notes").mkdir()
    storage.clean()
    assert sorted(p.name for p in (tmp_path / ".staging").iterdir()) == ["mine", "notes"]
    assert not staged.exists()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".staging").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / staged.name).mkdir(parents=True)
    LocalStorage(tmp_path / "root").clean()
    assert (tmp_path / "elsewhere" / staged.name).is_dir()


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, kind: str) -> None:
    storage: Storage = LocalStorage(tmp_path) if kind == "local" else remote(tmp_path, "cache")
    storage.publish("folder/manifest", b"small")
    assert storage.read("folder/manifest") == b"small"
    (file,) = tmp_path.rglob("folder/manifest")
    os.truncate(file, MAX_READ_BYTES + 1)
    with pytest.raises(UnavailableError, match="at most"):
        storage.read("folder/manifest")
