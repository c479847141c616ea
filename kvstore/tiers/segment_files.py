"""Names of the files that a folder of segments holds, and which of them are the store's own."""

import os
import re
import secrets
from collections.abc import Iterator

from kvstore.locks import is_own_file
from kvstore.types import SegmentKey

SUFFIX = ".segment"
_FILE = re.compile(r"[0-9a-f]{16}-[0-9a-f]{64}\.[0-9a-f]{8}" + re.escape(SUFFIX))
_HEX = "0123456789abcdef"
BELOW = [f"{x}/{y}" for x in _HEX for y in _HEX]
"""The folders of segment files."""


def new_name(key: SegmentKey) -> str:
    return f"{key}.{secrets.token_hex(4)}{SUFFIX}"


def folder_of(key: SegmentKey) -> str:
    digits = key.digest.hex()
    return f"{digits[0]}/{digits[1]}"


def has_own_name(name: str) -> bool:
    """Whether only this package gives a file such a name."""
    return _FILE.fullmatch(name) is not None


def key_of(name: str) -> SegmentKey | None:
    """Of the segment that a file of the store's is said to hold."""
    file = name.rpartition("/")[2]
    if not has_own_name(file):
        return None
    placement, digest = file.partition(".")[0].split("-")
    return SegmentKey(bytes.fromhex(placement), bytes.fromhex(digest))


def folders_in(root: str) -> Iterator[str]:
    """Of the folders of segment files those that are there: most of a small tier's are not, and to
    look into each of them takes longer than all else that lists it."""
    for first in _HEX:
        try:
            found = os.listdir(f"{root}/{first}")
        except FileNotFoundError:
            continue
        yield from (f"{first}/{second}" for second in sorted(set(_HEX).intersection(found)))


def own_files(folder: str, start: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Names and facts of the segment files in a folder whose names begin with `start`: regular
    files of this user, under names that only the store gives. None of a folder that is not
    there."""
    try:
        found = os.scandir(folder)
    except FileNotFoundError:
        return
    with found:
        for file in found:
            ours = file.name.startswith(start) and has_own_name(file.name)
            if ours and (facts := own_facts(file.path)):
                yield file.name, facts


def own_facts(path: str) -> os.stat_result | None:
    """None for what is gone since its folder was read, and for what is no regular file of this
    user: a link, a folder, somebody else's."""
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return None
    return facts if is_own_file(facts) else None
