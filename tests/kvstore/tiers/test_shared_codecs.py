"""Stores of several codecs on one shared medium."""

from pathlib import Path

import numpy as np
import pytest

from kvstore.checksum import segment_crcs
from kvstore.compression import create_codec
from kvstore.config import CODECS, CodecName
from kvstore.errors import CorruptSegmentError
from kvstore.tiers.bucket import Bucket
from kvstore.tiers.local_place import LocalPlace
from kvstore.tiers.sharing import Sharing
from kvstore.tiers.slow import SlowTier
from kvstore.types import SegmentSpec
from tests.kvstore.media import read_segment
from tests.kvstore.segments import chain_of, recovered


def shared_tier(folder: Path, name: CodecName) -> SlowTier:
    codec = create_codec(name)
    place = Bucket(LocalPlace(folder), codec=codec)
    return recovered(SlowTier(place, 2**20, codec=codec, sharing=Sharing(name.encode().ljust(8))))


def test_exact_and_inexact_objects_stand_beside_each_other(tmp_path: Path) -> None:
    """Stores of several codecs share a bucket: each serves what loses no more than its own."""
    (spec,), tiers = chain_of([1]), {name: shared_tier(tmp_path, name) for name in CODECS}
    for name in ("int8", "fp8", "raw"):
        assert tiers["raw"].find(spec.key) is None, f"{name}: nothing exact is there yet"
        put_into(tiers[name], spec)
    assert tiers["raw"].codec_misses == 2, "once before fp8 is written, once before raw"
    assert all(tier.check() == [] and tier.used_bytes > 0 for tier in tiers.values())
    assert read_segment(tiers["raw"], spec) == finite(spec)
    assert len(list(tmp_path.rglob("*.kv"))) == 3
    for name in CODECS:
        found = shared_tier(tmp_path, name).find(spec.key)
        assert found and found.own == (name == "raw"), "what is exact serves everybody"
    for tier in tiers.values():
        tier.close()


def test_an_object_whose_name_hides_its_codec_is_damaged(tmp_path: Path) -> None:
    (spec,), lossy = chain_of([1]), shared_tier(tmp_path, "int8")
    put_into(lossy, spec)
    (path,) = tmp_path.rglob("*.kv")
    data, exact = path.read_bytes(), shared_tier(tmp_path, "raw")
    path.unlink()
    put_into(exact, spec)
    (path,) = tmp_path.rglob("*.kv")
    nbytes = path.stat().st_size
    path.write_bytes(data.ljust(nbytes, b"\0"))
    with pytest.raises(CorruptSegmentError):
        exact.open(spec.key)


def put_into(tier: SlowTier, spec: SegmentSpec) -> None:
    data = memoryview(finite(spec))
    tier.put(spec, data, segment_crcs(spec, data))


def finite(spec: SegmentSpec) -> bytes:
    """What a lossy codec can represent."""
    return np.linspace(-1, 1, spec.layout.nbytes // 4, dtype=np.float32).tobytes()
