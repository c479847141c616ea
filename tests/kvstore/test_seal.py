from pathlib import Path

import pytest

from kvstore.codec import Header, decode_header, encode_header
from kvstore.errors import AuthenticationError, StoreConfigError
from kvstore.seal import MIN_KEY_NBYTES, Seal
from tests.kvstore.segments import chain_of, crcs_of, payload, right_layer

SPEC, OTHER = chain_of([1]), chain_of([2])
SEAL = Seal(b"0123456789abcdef0123456789abcdef")


def sealed(seal: Seal) -> tuple[Header, bytes]:
    (spec,) = SPEC
    layers = [memoryview(right_layer(spec, i)) for i in range(3)]
    macs = tuple(seal.layer_mac(spec.key, i, layer) for i, layer in enumerate(layers))
    header = Header(spec, crcs_of(spec), seal=seal.digest, macs=macs)
    return header, encode_header(header, seal.header_mac)


def test_a_sealed_header_comes_back_and_is_verified() -> None:
    header, data = sealed(SEAL)
    assert decode_header(data, "x") == header and len(data) == header.label.header_nbytes
    SEAL.verify_header(header, data, "x")
    for i in range(3):
        SEAL.verify_layer(header, i, memoryview(right_layer(SPEC[0], i)))


def test_every_changed_byte_that_matters_fails_the_mac() -> None:
    """Whoever forges a header computes its checksum as well, so that alone says nothing."""
    header, data = sealed(SEAL)
    used = 144 + 20 * 3 + 16
    for i in range(16, used):
        forged = bytearray(data)
        forged[i] ^= 1
        with pytest.raises(AuthenticationError):
            SEAL.verify_header(header, bytes(forged), "x")


def test_another_key_or_none_is_told() -> None:
    header, data = sealed(Seal(b"another key of enough characters"))
    with pytest.raises(AuthenticationError, match="another key"):
        SEAL.verify_header(header, data, "x")
    plain = Header(SPEC[0], crcs_of(SPEC[0]))
    with pytest.raises(AuthenticationError, match="no MAC"):
        SEAL.verify_header(plain, encode_header(plain), "x")


def test_a_layer_is_right_in_its_own_place_only() -> None:
    header, _ = sealed(SEAL)
    with pytest.raises(AuthenticationError, match="layer 1"):
        SEAL.verify_layer(header, 1, memoryview(right_layer(SPEC[0], 0)))
    with pytest.raises(AuthenticationError):
        SEAL.verify_layer(header, 0, memoryview(payload(OTHER[0])[: len(right_layer(SPEC[0], 0))]))


def test_the_key_is_read_from_a_file_that_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"k" * MIN_KEY_NBYTES)
    path.chmod(0o600)
    assert Seal.read(str(path)).digest == Seal(b"k" * MIN_KEY_NBYTES).digest != SEAL.digest
    for mode in (0o640, 0o604, 0o620):
        path.chmod(mode)
        with pytest.raises(StoreConfigError, match=f"{mode:04o}"):
            Seal.read(str(path))
    path.chmod(0o600)
    path.write_bytes(b"k" * (MIN_KEY_NBYTES - 1))
    with pytest.raises(StoreConfigError, match="31 bytes, must be at least 32"):
        Seal.read(str(path))
