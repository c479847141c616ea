import pytest

from kvstore.checksum import segment_crcs, verify_segment
from kvstore.errors import CorruptSegmentError
from tests.kvstore.segments import chain_of, crcs_of, payload


def test_a_checksum_knows_its_key_and_its_layer() -> None:
    one, two = chain_of([1], [2])
    zeros = memoryview(bytes(one.layout.nbytes))
    crcs = segment_crcs(one, zeros) + segment_crcs(two, zeros)
    assert len(set(crcs)) == 6, "equal bytes in another place have another checksum"


def test_every_flipped_bit_is_detected() -> None:
    spec = chain_of([1])[0]
    crcs, data = crcs_of(spec), bytearray(payload(spec))
    verify_segment(spec, memoryview(data), crcs)
    for bit in range(0, len(data) * 8, 7):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptSegmentError, match=f"layer {bit // 8 // 128}"):
            verify_segment(spec, memoryview(data), crcs)
        data[bit // 8] ^= 1 << bit % 8


def test_a_wrong_size_or_number_of_checksums_is_refused() -> None:
    spec = chain_of([1])[0]
    data = memoryview(payload(spec))
    with pytest.raises(CorruptSegmentError, match="expected 384 bytes"):
        verify_segment(spec, data[1:], crcs_of(spec))
    with pytest.raises(CorruptSegmentError, match="2 checksums"):
        verify_segment(spec, data, crcs_of(spec)[:2])
