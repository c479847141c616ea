"""Which generator replica has answered from which passages: where a prompt's longest path lies."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

_REMEMBERED = 16_384
"""Paths; of each the replica that was asked last."""


class RoutedPaths:
    """What one caller knows of the replicas' knowledge trees, by the requests that it sent there.
    For one thread."""

    def __init__(self, max_paths: int = _REMEMBERED) -> None:
        self._max_paths = max_paths
        self._last: OrderedDict[bytes, str] = OrderedDict()

    def order(
        self, passages: Sequence[str], replicas: Sequence[str], has_room: Callable[[str], bool]
    ) -> tuple[str, ...]:
        """`replicas`, and first of them the one with room that was last asked about the longest
        run of leading passages. It is remembered to have all of them from now on."""
        if not replicas:
            return ()
        paths = list(_digests(passages))
        told = (self._last[path] for path in reversed(paths) if path in self._last)
        fit = (name for name in told if name in replicas and has_room(name))
        first = next(fit, replicas[0])
        for path in reversed(paths):  # the shortest is the last to be forgotten
            self._last[path] = first
            self._last.move_to_end(path)
        while len(self._last) > self._max_paths:
            self._last.popitem(last=False)
        return (first, *(name for name in replicas if name != first))


def _digests(passages: Sequence[str]) -> Iterator[bytes]:
    """Of the first passage, the first two, and so on."""
    chain = b""
    for passage in passages:
        chain = blake2b(chain + passage.encode(), digest_size=16).digest()
        yield chain
