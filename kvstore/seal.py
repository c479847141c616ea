"""Keyed MACs: who can write to a shared tier, but has no key, cannot make KV that a store uses.

A MAC is blake2b in its keyed mode, 16 bytes. A layer's covers the segment's key, the layer's index
and its bytes as they are stored, so a streamed segment is verified layer by layer, before anybody
is told of the layer. The header's covers all of the header, with the MACs of the layers.
"""

import hmac
import os
import stat
from hashlib import blake2b
from pathlib import Path

from kvstore.codec import MAC_NBYTES, NOBODY, Header, signed_part
from kvstore.errors import AuthenticationError, StoreConfigError
from kvstore.types import SegmentKey

MIN_KEY_NBYTES = 32
MAX_KEY_NBYTES = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Seal:
    """Makes and verifies MACs. Stateless, hence thread-safe; shows nothing of its key."""

    def __init__(self, key: bytes) -> None:
        if len(key) < MIN_KEY_NBYTES:
            raise ValueError(f"holds {len(key)} bytes, must be at least {MIN_KEY_NBYTES}")
        self._key = blake2b(key, digest_size=64, person=b"hyperrag-key").digest()
        self.digest = blake2b(key=self._key, digest_size=8, person=b"hyperrag-seal").digest()
        """What objects carry of it: those of another key are told without a look at their MACs."""

    @classmethod
    def read(cls, path: str) -> "Seal":
        """Raises StoreConfigError for a file that is too short, or that others can read."""
        setting, file = f"store.remote_mac_key_file {path}", Path(path).expanduser()
        try:
            with file.open("rb") as opened:
                mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
                key = opened.read(MAX_KEY_NBYTES)
        except OSError as error:
            raise StoreConfigError(f"{setting}: {error.strerror}") from error
        if mode & _OTHERS:
            raise StoreConfigError(
                f"{setting} has mode {mode:04o}, must be its owner's alone (0600)"
            )
        try:
            return cls(key)
        except ValueError as error:
            raise StoreConfigError(f"{setting} {error}") from None

    def header_mac(self, data: bytes) -> bytes:
        return self._mac(b"hyperrag-header", data)

    def layer_mac(self, key: SegmentKey, layer: int, data: memoryview) -> bytes:
        """Releases the GIL over the data."""
        place = key.placement + key.digest + layer.to_bytes(4, "little")
        return self._mac(b"hyperrag-layer", place, data)

    def verify_header(self, header: Header, data: bytes, name: str) -> None:
        """`data` is the encoded header. Raises AuthenticationError."""
        if header.seal != self.digest:
            reason = "has no MAC" if header.seal == NOBODY else "has MACs of another key"
            raise AuthenticationError(name, reason)
        signed, mac = signed_part(data, header.label)
        if not hmac.compare_digest(self.header_mac(signed), mac):
            raise AuthenticationError(name, "has a header with a wrong MAC")

    def verify_layer(self, header: Header, layer: int, data: memoryview) -> None:
        """Raises AuthenticationError."""
        key = header.spec.key
        if not hmac.compare_digest(self.layer_mac(key, layer, data), header.macs[layer]):
            raise AuthenticationError(str(key), f"layer {layer} has a wrong MAC")

    def _mac(self, purpose: bytes, *parts: bytes | memoryview) -> bytes:
        state = blake2b(key=self._key, digest_size=MAC_NBYTES, person=purpose)
        for part in parts:
            state.update(part)
        return state.digest()
