import struct
from dataclasses import replace

import crc32c
import pytest

from kvstore.codec import PAGE, Header, decode_header, encode_header, file_nbytes, header_nbytes
from kvstore.errors import CorruptSegmentError, OtherVersionError
from kvstore.types import MARK_NBYTES, MAX_FOLLOWED
from tests.kvstore.segments import chain_of, crcs_of, header_of_version


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layers", [1, 30, 990, 1200])
def test_a_header_says_what_was_put_into_it(dtype: str, layers: int) -> None:
    spec = chain_of([1], [2], dtype=dtype, layers=layers)[1]  # type: ignore[arg-type]
    header = Header(spec, tuple(range(layers)))
    data = encode_header(header)
    assert decode_header(data + b"payload", "x") == header
    assert len(data) == header_nbytes(layers) and len(data) % PAGE == 0
    assert file_nbytes(spec) == len(data) + spec.layout.nbytes


def test_every_flipped_byte_of_a_header_is_detected() -> None:
    spec = chain_of([1])[0]
    data = bytearray(encode_header(Header(spec, crcs_of(spec))))
    for i in range(len(data)):
        data[i] ^= 1 << (i % 8)
        with pytest.raises(CorruptSegmentError):
            decode_header(bytes(data), "x")
        data[i] ^= 1 << (i % 8)
    assert decode_header(bytes(data), "x").spec == spec


def test_a_sound_header_of_another_version_is_told_from_damage() -> None:
    spec = chain_of([1])[0]
    data = bytearray(header_of_version(spec, 1))
    with pytest.raises(OtherVersionError, match="version 1"):
        decode_header(bytes(data), "x")
    data[200] ^= 1
    with pytest.raises(CorruptSegmentError, match="wrong checksum"):
        decode_header(bytes(data), "x")


@pytest.mark.parametrize("size", [0, 8, 4095])
def test_a_torn_header_is_detected(size: int) -> None:
    spec = chain_of([1])[0]
    with pytest.raises(CorruptSegmentError):
        decode_header(encode_header(Header(spec, crcs_of(spec)))[:size], "x")


def test_a_header_says_what_its_segment_follows() -> None:
    chain = chain_of(*([n] for n in range(MAX_FOLLOWED + 3)))
    assert chain[3].marks == [spec.tag[:MARK_NBYTES] for spec in chain[:3]]
    for spec in chain[: MAX_FOLLOWED + 1]:
        header = Header(spec, crcs_of(spec))
        assert decode_header(encode_header(header), "x") == header and not spec.is_too_deep
    assert all(spec.is_too_deep for spec in chain[MAX_FOLLOWED + 1 :])


def test_a_header_that_follows_more_than_it_can_is_damaged() -> None:
    spec = replace(chain_of([1])[0], follows=b"mark")
    body = bytearray(encode_header(Header(spec, crcs_of(spec)))[:-4])
    struct.pack_into("<I", body, 144, MAX_FOLLOWED + 1)
    with pytest.raises(CorruptSegmentError, match=f"follows {MAX_FOLLOWED + 1} segments"):
        decode_header(bytes(body) + struct.pack("<I", crc32c.crc32c(bytes(body))), "x")
