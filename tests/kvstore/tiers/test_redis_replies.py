"""A server whose replies are of another type than the commands have: it fails as a medium does."""

import errno
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kvstore.tiers.redis_server import RedisMedium
from tests.kvstore.media import write
from tests.kvstore.segments import chain_of, passage
from tests.kvstore.waiting import eventually

SPEC = chain_of(passage(1))[0]
NAME = f"hyperrag:v4:{SPEC.key}@{'0' * 16}"
REPLIES = {
    "integer": b":5\r\n",
    "negative integer": b":-1\r\n",
    "huge integer": b":9223372036854775807\r\n",
    "nothing": b"$-1\r\n",
    "status": b"+WHAT\r\n",
    "list of an integer": b"*1\r\n:1\r\n",
    "empty list": b"*0\r\n",
    "list of lists": b"*2\r\n*1\r\n:0\r\n*1\r\n*0\r\n",
    "scan of no list": b"*2\r\n$1\r\n0\r\n:7\r\n",
    "scan of integers": b"*2\r\n$1\r\n0\r\n*2\r\n:7\r\n:8\r\n",
    "other bytes": b"$4\r\n\xff\xfe\x00!\r\n",
}
CALLS: dict[str, Callable[[RedisMedium], object]] = {
    "write": lambda medium: write(medium, SPEC),
    "open": lambda medium: medium.open(NAME),
    "read": lambda medium: medium.read(NAME, memoryview(bytearray(10)), 0),
    "find": lambda medium: medium.find(SPEC.key),
    "list": lambda medium: list(medium.list()),
    "delete": lambda medium: medium.delete(NAME),
}


FLOODS = {
    "a value of 10 GB": b"$10000000000\r\n",
    "a list without an end": b"*10000000000\r\n",
    "a line without an end": b"+",
    "lists in lists": b"*1\r\n$1000000000\r\n",
    "an error without an end": b"-ERR ",
}
FLOOD_BYTES = 128 * 2**20
"""Sent behind each of them, unless the client hangs up."""


@contextmanager
def server(reply: bytes, flood: bytes = b"", sent: list[int] | None = None) -> Iterator[str]:
    """It gives every command the same reply, and then `flood`, again and again; `sent` has in the
    end how many bytes of that the client took."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while line := self.rfile.readline():
                    for _ in range(int(line[1:])):
                        self.rfile.read(int(self.rfile.readline()[1:]) + 2)
                    self.wfile.write(reply)
                    if sent is not None:
                        self.flood(sent)

        def flood(self, sent: list[int]) -> None:
            nbytes = 0
            try:
                while nbytes < FLOOD_BYTES:
                    self.wfile.write(flood)
                    nbytes += len(flood)
            finally:
                sent.append(nbytes)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as one:
        threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
        yield f"redis://127.0.0.1:{one.server_address[1]}/0"
        one.shutdown()


@pytest.mark.parametrize("kind", REPLIES)
def test_no_reply_is_more_than_a_failure_of_the_medium(kind: str) -> None:
    with server(REPLIES[kind]) as url:
        medium = RedisMedium(url, 5.0)
        for call in CALLS.values():
            with suppress(OSError):
                call(medium)
        medium.close()


def test_a_reply_of_another_type_is_named() -> None:
    with server(REPLIES["integer"]) as url:
        medium = RedisMedium(url, 5.0)
        for call in (CALLS["read"], CALLS["list"]):
            with pytest.raises(OSError, match="sent what is no answer") as failure:
                call(medium)
            assert failure.value.errno == errno.EPROTO
        medium.close()


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("call", ["read", "find", "list"])
def test_who_sends_without_end_is_hung_up_on(kind: str, call: str) -> None:
    sent: list[int] = []
    flood = (
        (b"$1000\r\n" + bytes(1000) + b"\r\n") * 64 if kind.startswith("a list") else bytes(2**16)
    )
    with server(FLOODS[kind], flood, sent) as url:
        medium = RedisMedium(url, 30.0)
        with pytest.raises(OSError, match="sent more than"):
            CALLS[call](medium)
        medium.close()
        assert eventually(lambda: bool(sent), 30.0)
    assert sent[0] < FLOOD_BYTES / 2, "what is on the way in the two sockets' buffers, no more"
