"""Connections to a Redis server whose answers are bounded before they are held in memory.

The client library keeps what a server sends until the answer is whole, however much a server that
is broken, or not ours, declares and goes on to send. So the bytes are counted where they arrive.
"""

import errno
from typing import Any

from redis.connection import Connection, SSLConnection

MAX_READ_BYTES = 4 * 2**20
"""Of a value, that one command asks for."""
MAX_ANSWER_BYTES = 2 * MAX_READ_BYTES
"""To one command, or to all that are sent together: labels and names take less than a MiB."""


class _BoundedSocket:
    """A socket from which only so much is received after each `allow`."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._left = 0
        self.allow()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def allow(self) -> None:
        self._left = MAX_ANSWER_BYTES

    def recv(self, nbytes: int, flags: int = 0) -> bytes:
        data: bytes = self._sock.recv(nbytes, flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """What a parser in C reads by."""
        done: int = self._sock.recv_into(buffer, nbytes, flags)
        self._count(done)
        return done

    def _count(self, nbytes: int) -> None:
        """Raises OSError, after which the client closes the connection."""
        self._left -= nbytes
        if self._left < 0:
            raise OSError(errno.EMSGSIZE, f"sent more than {MAX_ANSWER_BYTES} bytes as one answer")


class BoundedConnection(Connection):  # type: ignore[misc]  # the package has no types here
    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        if self._sock is not None:
            self._sock.allow()
        super().send_packed_command(*args, **options)


class BoundedTLSConnection(SSLConnection):  # type: ignore[misc]  # likewise
    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        if self._sock is not None:
            self._sock.allow()
        super().send_packed_command(*args, **options)
