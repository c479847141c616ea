"""Segments in a bucket or folder that several stores, of one cluster or of many, share.

    <base>/HYPERRAG-STORE                       says that what is here is ours to delete
    <base>/<ab>/<cd>/<name>                     ab, cd: first hex digits of the segment's digest
    <base>/tmp/<writer>.<nonce>                 being written, where a file system can rename
    <base>/quarantine/<name>                    damaged objects, the newest few, for an operator

A name carries all that a listing wants to know, with the store that wrote the object
(`object_name.py`); so what one store deletes by its name is never another's. The folder follows
from the key, and the few names in it are one request: that says whether an object is there. Two
stores that write one key at the same moment leave two objects, each whole and its writer's.

Names of any other form, here or in `tmp` and `quarantine`, are left alone, and a base that is
neither empty nor marked is not used at all. The mark is the oldest object, the first that a
lifecycle by age takes, and goes where somebody empties the bucket: it is looked for now and then,
and made again where nothing but folders of ours is left.

Where a rename is atomic (local, NFS, HDFS) an object is written in `tmp` and moved; an object store
shows an object when its upload is complete. Local and NFS files are synced before they get their
names; HDFS promises no more than a closed file. What is lost or torn all the same fails the
reader's checksums: a miss.
"""

import errno
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress

from kvstore.codec import NOBODY, Label, decode_header
from kvstore.compression import RAW, Codec
from kvstore.tiers.medium import Listed, Medium, Source, Written, preferred
from kvstore.tiers.object_name import decode_name, encode_name
from kvstore.tiers.place import Found, Place
from kvstore.tiers.store_folder import MARK
from kvstore.types import SegmentKey, TierName

MAX_ASIDE = 8
LOOK_S = 60.0
"""How often it is looked whether the mark is still there."""
LEFTOVER_S = 3600.0
"""A file in `tmp` of this age has no writer any more."""
IN_OTHER_USE = (
    f"it is neither empty nor marked as a store's by an object {MARK}: choose a folder or prefix "
    "of its own, in which nothing else is kept"
)
_MARK_TEXT = b"Stores of HyperRAG keep KV segments here, and delete them.\n"
_FOLDER = re.compile(r"[0-9a-f]{2}")
_BELOW = re.compile(r"[0-9a-f]{2}|tmp|quarantine")
_TEMPORARY = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{16}")


class Bucket(Medium):
    tier: TierName = "remote"
    exclusive = False

    def __init__(self, place: Place, seal: bytes = NOBODY, codec: Codec = RAW) -> None:
        """`seal`: objects of other seals are not found, for they could not be verified. `codec`:
        that of the store."""
        self._place = place
        self._seal = seal
        self._codec = codec
        self._claimed: object = None  # the base that was
        self._look_again_at = 0.0
        self._aside_bytes = 0

    def claim(self) -> bool:
        """Mark the base as ours; False when it is neither empty nor marked. What was marked is
        looked at again when another base is in its place, and now and then."""
        base = self._place.identity()
        if base is not None and base == self._claimed and time.monotonic() < self._look_again_at:
            return True
        self._claimed = None
        if not self._place.exists(MARK) and (self._place.is_empty() or self._lost_its_mark()):
            self._place.mark(MARK, _MARK_TEXT)
        if not self._place.exists(MARK):  # others may have marked it between the two looks
            return False
        self._claimed = self._place.identity()
        self._look_again_at = time.monotonic() + LOOK_S
        return True

    def takes(self, label: Label) -> bool:
        try:
            encode_name(label)
        except ValueError:
            return False
        return True

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        """A whole object that is there stays: its readers have its checksums, and another node's
        KV of the same tokens may differ in a late bit."""
        label = decode_header(header, str(key)).label
        try:
            self._require_claim()
            present = self._find(key, label.seal)
            if present and present.label and self._codec.accepts(present.label.codec):
                return Written(present.name, is_new=False)
            name = f"{_folder_of(key)}/{_file_name(label)}"
            self._put(name, label.writer, header, payload)
        except FileNotFoundError as error:  # the place, not an object, is gone
            raise OSError(errno.ENXIO, error.strerror) from error
        return Written(name, is_new=True)

    def open(self, name: str) -> Source:
        return self._place.open(name)

    def find(self, key: SegmentKey) -> Listed | None:
        self._require_claim()
        return self._find(key, self._seal)

    def list(self) -> Iterator[Listed]:
        """Folder by folder, 256 at most, of each the names alone. Removes what crashed writers
        left."""
        self._require_claim()
        for folder in self._place.folders():
            if folder == "tmp":
                self._sweep()
            elif folder == "quarantine":
                self._trim_aside()
            elif _FOLDER.fullmatch(folder):
                for found in self._place.files(folder, with_folders=True):
                    if listed := _listed(found):
                        yield listed

    def delete(self, name: str) -> None:
        self._place.delete(name)

    def set_aside(self, name: str) -> None:
        """Keeps the eight newest."""
        try:
            self._place.move(name, f"quarantine/{name.rpartition('/')[2]}")
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            self.delete(name)
        self._trim_aside()

    def aside(self) -> Iterator[Listed]:
        """As their names say, whoever set them aside."""
        self._require_claim()
        for each in self._place.files("quarantine"):
            if (label := decode_name(each.name)) is not None:
                yield Listed(each.path, each.nbytes, each.mtime, label)

    def delete_aside(self, name: str) -> None:
        self.delete(name)
        self._trim_aside()

    @property
    def aside_bytes(self) -> int:
        """As of the last listing or object that was set aside here."""
        return self._aside_bytes

    def close(self) -> None:
        """The file system closes with the last of its open objects."""

    def _require_claim(self) -> None:
        """Raises OSError where nothing of ours may be."""
        if not self.claim():
            raise OSError(errno.EPERM, IN_OTHER_USE)

    def _lost_its_mark(self) -> bool:
        """Whether there are objects of stores, and beside their folders nothing else."""
        folders = self._place.folders()
        if self._place.files("") or not all(map(_BELOW.fullmatch, folders)):
            return False
        found = (self._place.files(folder, with_folders=True) for folder in folders)
        return any(_listed(each) for files in found for each in files)

    def _find(self, key: SegmentKey, seal: bytes) -> Listed | None:
        found = self._place.files(_folder_of(key))
        ours = [each for each in found if each.name.startswith(f"{key}-")]
        listed = map(_listed, sorted(ours, key=lambda each: each.name))
        sound = [each for each in listed if each and each.label and each.label.seal == seal]
        return preferred(sound, self._codec)

    def _put(self, name: str, writer: bytes, header: bytes, payload: memoryview) -> None:
        renames = self._place.renames
        target = f"tmp/{writer.hex()}.{secrets.token_hex(8)}" if renames else name
        try:
            self._place.write(target, (header, payload))
            if renames:
                self._place.move(target, name)
        except BaseException:  # closing the stream may have published the half that it had
            with suppress(OSError):
                self.delete(target)
            raise

    def _sweep(self) -> None:
        for found in self._place.files("tmp"):
            is_ours = _TEMPORARY.fullmatch(found.name)
            if is_ours and time.time() - found.mtime > LEFTOVER_S:
                self.delete(found.path)

    def _trim_aside(self) -> None:
        found = self._place.files("quarantine")
        ours = [each for each in found if decode_name(each.name) is not None]
        ours.sort(key=lambda each: each.mtime, reverse=True)
        for each in ours[MAX_ASIDE:]:
            self.delete(each.path)
        self._aside_bytes = sum(each.nbytes for each in ours[:MAX_ASIDE])


def _listed(found: Found) -> Listed | None:
    """None for what has another name than ours, is in another folder, or has another size than its
    name says: a torn object is nobody's hit."""
    label = decode_name(found.name)
    if label is None or label.nbytes != found.nbytes:
        return None
    if found.path != f"{_folder_of(label.spec.key)}/{found.name}":
        return None
    return Listed(found.path, found.nbytes, found.mtime, label)


def _folder_of(key: SegmentKey) -> str:
    digits = key.digest.hex()
    return f"{digits[:2]}/{digits[2:4]}"


def _file_name(label: Label) -> str:
    try:
        return encode_name(label)
    except ValueError as error:
        raise OSError(errno.ENAMETOOLONG, str(error)) from error
