import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvstore.codec import Label
from kvstore.tiers.bucket import LEFTOVER_S, MAX_ASIDE, Bucket
from kvstore.tiers.bucket_url import connect
from kvstore.tiers.guarded import Guarded
from kvstore.tiers.object_name import encode_name
from kvstore.tiers.slow import SlowTier
from kvstore.tiers.store_folder import MARK
from tests.kvstore.media import object_of, read_all, read_object, write
from tests.kvstore.segments import chain_of, passage

SPEC, OTHER = chain_of(passage(1))[0], chain_of(passage(2))[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder" / "segments"


@pytest.fixture
def bucket(folder: Path) -> Bucket:
    return Bucket(connect(folder.as_uri(), 5.0))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_object_is_a_file_named_by_its_key(bucket: Bucket, folder: Path) -> None:
    name = write(bucket, SPEC)
    digits = SPEC.key.digest.hex()
    assert name == f"{digits[:2]}/{digits[2:4]}/{encode_name(Label(SPEC))}"
    assert files_in(folder) == {name, MARK}
    assert (folder / name).read_bytes() == object_of(SPEC)


def test_two_of_one_folder_share_it(bucket: Bucket, folder: Path) -> None:
    name = write(bucket, SPEC)
    other = Bucket(connect(folder.as_uri() + "/", 5.0))
    found = other.find(SPEC.key)
    assert found is not None and found.name == name and read_object(other, name) == object_of(SPEC)
    other.delete(name)
    assert bucket.find(SPEC.key) is None


def test_a_whole_object_is_not_written_again_a_torn_one_is(bucket: Bucket, folder: Path) -> None:
    path = folder / write(bucket, SPEC)
    before = path.stat()
    write(bucket, SPEC)
    assert path.stat() == before
    path.write_bytes(object_of(SPEC)[:5000])
    assert read_object(bucket, write(bucket, SPEC)) == object_of(SPEC)


def test_an_open_object_that_is_replaced_stays_what_it_was(bucket: Bucket, folder: Path) -> None:
    name = write(bucket, SPEC)
    torn = object_of(SPEC)[:5000]
    (folder / name).write_bytes(torn)
    with bucket.open(name) as source:
        write(bucket, SPEC)
        assert read_all(source, 10_000) == torn


def test_a_listing_skips_what_is_being_written_and_removes_what_was_left(
    bucket: Bucket, folder: Path
) -> None:
    name = write(bucket, SPEC)
    fresh, stale = (folder / f"tmp/{'0' * 16}.{n}" for n in ("1" * 16, "2" * 16))
    strange = folder / "tmp/thesis.doc"
    for path in (fresh, stale, strange):
        path.write_bytes(b"half")
        if path != fresh:
            os.utime(path, (time.time() - 2 * LEFTOVER_S,) * 2)
    assert [each.name for each in bucket.list()] == [name]
    assert fresh.exists() and strange.exists() and not stale.exists()


def test_a_listing_skips_files_of_strangers(bucket: Bucket, folder: Path) -> None:
    name = write(bucket, SPEC)
    (folder / "README").write_text("ours")
    (folder / name[:2] / "notes.txt").write_text("ours")
    (folder / name[:5] / "notes.txt").write_text("ours")
    (folder / name[:5] / name[6:].replace(".v4.", ".v3.")).write_bytes(object_of(SPEC))
    other = chain_of(passage(2))[0]
    (folder / name[:5] / encode_name(Label(other))).write_bytes(object_of(other))
    assert [each.name for each in bucket.list()] == [name]


def test_the_newest_damaged_objects_are_kept(bucket: Bucket, folder: Path) -> None:
    specs = [chain_of(passage(number))[0] for number in range(MAX_ASIDE + 3)]
    for age, spec in enumerate(reversed(specs)):
        name = write(bucket, spec)
        os.utime(folder / name, (1e9 - age,) * 2)
        bucket.set_aside(name)
    kept = {f"quarantine/{encode_name(Label(spec))}" for spec in specs[-MAX_ASIDE:]}
    assert files_in(folder) == kept | {MARK}
    assert bucket.aside_bytes == sum((folder / name).stat().st_size for name in kept)
    again = Bucket(connect(folder.as_uri(), 5.0))
    assert list(again.list()) == [] and again.aside_bytes == bucket.aside_bytes


def test_what_was_set_aside_goes_by_its_passage(bucket: Bucket, folder: Path) -> None:
    other = chain_of(passage(2))[0]
    for spec in (SPEC, other):
        bucket.set_aside(write(bucket, spec))
    tier = SlowTier(Guarded(bucket, 3, 10.0, None), 2**20)
    tier.purge.aside(lambda spec: spec == SPEC)
    name = f"quarantine/{encode_name(Label(other))}"
    assert files_in(folder) == {name, MARK}
    assert bucket.aside_bytes == (folder / name).stat().st_size


def test_a_failed_write_leaves_nothing_and_is_no_missing_object(
    bucket: Bucket, folder: Path
) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    with pytest.raises(OSError) as caught:
        write(bucket, SPEC)
    assert not isinstance(caught.value, FileNotFoundError) and caught.value.errno
    folder.unlink()
    assert read_object(bucket, write(bucket, SPEC)) == object_of(SPEC)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket/x?regoin=us-east-1",
        "s3://",
        "file://nas/segments",
        "file:///",
        "file:///tmp/segments?mode=0644",
        "ftp://host/segments",
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        connect(url, 1.0)
    assert "secret" not in str(caught.value)


def test_a_bucket_that_cannot_be_reached_fails_with_a_number_and_a_text() -> None:
    url = "s3://key:secret@bucket/x?scheme=http&endpoint_override=127.0.0.1:1&region=us-east-1"
    bucket = Bucket(connect(url, 1.0))
    with pytest.raises(OSError) as caught:
        bucket.find(SPEC.key)
    assert caught.value.errno and caught.value.strerror
    assert "secret" not in str(caught.value)


def test_what_is_set_aside_pushes_no_file_of_a_stranger_out(bucket: Bucket, folder: Path) -> None:
    strangers = [folder / f"quarantine/{number}.pdf" for number in range(MAX_ASIDE + 3)]
    write(bucket, SPEC)
    strangers[0].parent.mkdir()
    for path in strangers:
        path.write_text("not ours")
        os.utime(path, (1e9, 1e9))
    bucket.set_aside(write(bucket, SPEC))
    assert list(bucket.list()) == [] and all(path.exists() for path in strangers)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_base_in_other_use_is_refused_and_left_alone(
    bucket: Bucket, folder: Path, kind: str
) -> None:
    (folder / "tmp").mkdir(parents=True)
    thesis = folder / "tmp/thesis" if kind == "folder" else folder / "thesis"
    thesis.write_text("of somebody")
    os.utime(thesis, (1e9, 1e9))
    assert not bucket.claim()
    calls = (
        lambda: write(bucket, SPEC),
        lambda: bucket.find(SPEC.key),
        lambda: next(bucket.list()),
    )
    for call in calls:
        with pytest.raises(OSError, match="neither empty nor marked"):
            call()
    assert files_in(folder) == {str(thesis.relative_to(folder))}


def test_a_marked_base_stays_ours(bucket: Bucket, folder: Path) -> None:
    assert bucket.claim()
    (folder / "notes.txt").write_text("of somebody")
    again = Bucket(connect(folder.as_uri(), 5.0))
    assert read_object(again, write(again, SPEC)) == object_of(SPEC)


@pytest.mark.parametrize("kept", ["objects", "nothing", "no folder"])
def test_a_mark_that_was_taken_is_made_again(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """A lifecycle takes what is oldest, and somebody may empty the bucket."""
    write(bucket, SPEC)
    (folder / MARK).unlink()
    if kept != "objects":
        shutil.rmtree(folder)
    if kept == "nothing":
        folder.mkdir()
    write(bucket, OTHER)
    assert (folder / MARK).exists() or kept != "no folder", "where nothing is, a mark is the first"
    monkeypatch.setattr(bucket, "_look_again_at", 0.0)  # a minute later
    write(bucket, OTHER)
    assert (folder / MARK).exists()


def test_a_store_starts_on_objects_whose_mark_was_taken(bucket: Bucket, folder: Path) -> None:
    write(bucket, SPEC)
    (folder / MARK).unlink()
    (folder / "quarantine").mkdir()
    assert Bucket(connect(folder.as_uri(), 5.0)).claim() and (folder / MARK).exists()


@pytest.mark.parametrize("beside", ["notes.txt", "more/a", "tmp2/a"])
def test_but_not_where_something_else_is_beside_them(
    bucket: Bucket, folder: Path, beside: str
) -> None:
    write(bucket, SPEC)
    (folder / MARK).unlink()
    (folder / beside).parent.mkdir(exist_ok=True)
    (folder / beside).write_text("of somebody")
    assert not Bucket(connect(folder.as_uri(), 5.0)).claim() and not (folder / MARK).exists()


def test_folders_that_are_named_as_ours_and_hold_no_object_are_somebodys(
    bucket: Bucket, folder: Path
) -> None:
    """As those of Git's objects are."""
    (folder / "ab/cd").mkdir(parents=True)
    (folder / "ab/cd/4f").write_text("of somebody")
    assert not bucket.claim() and files_in(folder) == {"ab/cd/4f"}


def test_a_base_that_became_another_is_not_written_to(
    bucket: Bucket, folder: Path, tmp_path: Path
) -> None:
    write(bucket, SPEC)
    (tmp_path / "of somebody").mkdir()
    (tmp_path / "of somebody/thesis").write_text("x")
    folder.rename(tmp_path / "aside")
    folder.symlink_to(tmp_path / "of somebody")
    for call in (lambda: write(bucket, OTHER), lambda: bucket.find(SPEC.key)):
        with pytest.raises(OSError, match="neither empty nor marked"):
            call()
    assert files_in(tmp_path / "of somebody") == {"thesis"}
    folder.unlink()
    (tmp_path / "aside").rename(folder)
    assert read_object(bucket, write(bucket, OTHER)) == object_of(OTHER)


def test_stores_that_begin_at_once_all_claim_an_empty_base(folder: Path) -> None:
    def claims(number: int) -> list[bool]:
        base = (folder / str(number)).as_uri()
        buckets = [Bucket(connect(base, 5.0)) for _ in range(4)]
        return list(pool.map(lambda bucket: bucket.claim(), buckets))

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            assert all(claims(number))
