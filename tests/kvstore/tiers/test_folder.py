"""The SSD's folder, while others write and delete in it."""

import os
from pathlib import Path

from kvstore.tiers.folder import Folder
from tests.kvstore.segments import chain_of, passage

KEY = chain_of(passage(1))[0].key


def test_what_is_deleted_during_a_listing_hides_nothing_else(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 0)
    keys = [KEY._replace(digest=KEY.digest[:1] + bytes([n]) * 31) for n in range(5)]
    names = [folder.write(key, b"header", memoryview(b"payload")).name for key in keys]
    below = os.path.dirname(names[0])
    first, second, *others = (f"{below}/{name}" for name in os.listdir(tmp_path / below))
    listing = folder.list()
    assert next(listing).name == first
    folder.delete(second)
    assert [listed.name for listed in listing] == others and len(others) == 3
    folder.close()
