"""Which segments somebody holds, and who has to know when that begins and ends."""

from typing import Protocol


class Follower(Protocol):
    """Keeps an order of eviction: what is held is not in it."""

    def hold(self, digest: bytes) -> None: ...

    def unhold(self, digest: bytes) -> None: ...


class Holds:
    """Reasons to hold, counted by the digests of segments, which need not be here yet. Not
    thread-safe: the metadata lock guards it."""

    def __init__(self) -> None:
        self._reasons: dict[bytes, int] = {}
        self._followers: list[Follower] = []

    def __contains__(self, digest: object) -> bool:
        return digest in self._reasons

    def follow(self, follower: Follower) -> None:
        """Before the first hold."""
        self._followers.append(follower)

    def begin(self, digest: bytes) -> None:
        """One more reason."""
        before = self._reasons.get(digest, 0)
        self._reasons[digest] = before + 1
        if not before:
            for follower in self._followers:
                follower.hold(digest)

    def end(self, digest: bytes) -> None:
        """One reason less."""
        left = self._reasons.pop(digest) - 1
        if left:
            self._reasons[digest] = left
        else:
            for follower in self._followers:
                follower.unhold(digest)

    def digests(self) -> list[bytes]:
        """Of all that is held."""
        return list(self._reasons)

    def num_reasons(self, digest: bytes) -> int:
        return self._reasons.get(digest, 0)
