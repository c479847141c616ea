"""Which segments somebody holds, and who has to know when that begins and ends."""

from collections.abc import Collection
from typing import Protocol

from kvstore.parts import DigestParts


class Follower(Protocol):
    """Keeps an order of eviction: what is held is not in it."""

    def hold(self, digest: bytes) -> None: ...

    def unhold(self, digest: bytes) -> None: ...


class Holds:
    """Reasons to hold, counted by the digests of segments, which need not be here yet. Not
    thread-safe: the metadata lock guards it."""

    def __init__(self) -> None:
        self._reasons: DigestParts[int] = DigestParts()
        self._followers: list[Follower] = []

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, bytes) and self._reasons.has(digest)

    def follow(self, follower: Follower) -> None:
        """Before the first hold."""
        self._followers.append(follower)

    def begin(self, digest: bytes) -> None:
        """One more reason."""
        before = self._reasons.get(digest, 0)
        self._reasons.put(digest, before + 1)
        if not before:
            for follower in self._followers:
                follower.hold(digest)

    def end(self, digest: bytes) -> None:
        """One reason less."""
        left = self._reasons.pop(digest) - 1
        if left:
            self._reasons.put(digest, left)
        else:
            for follower in self._followers:
                follower.unhold(digest)

    def digests(self) -> Collection[bytes]:
        """Of all that is held now: to be looked through at leisure, without the lock."""
        return self._reasons.copy()

    def num_reasons(self, digest: bytes) -> int:
        return self._reasons.get(digest, 0)
