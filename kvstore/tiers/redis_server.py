"""Segments on one Redis or Valkey server, which several nodes share.

    <prefix>:<placement>-<digest>       header and payload, one string value

One value is one object: SET makes it visible whole, GETRANGE reads a layer of it. A server that
evicts or restarts empty makes misses, nothing worse. How lasting a write is, the server's
configuration decides (`appendonly`); KV that can be computed again needs none of it.
"""

import errno
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis import BlockingConnectionPool, Redis, exceptions
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from kvstore.tiers.medium import Listed, Medium, Source
from kvstore.types import SegmentKey, TierName

MAX_VALUE_BYTES = 512 * 2**20
"""What a server takes as one string unless its `proto-max-bulk-len` says otherwise."""
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}
_CODES = {exceptions.OutOfMemoryError: errno.ENOSPC, exceptions.ReadOnlyError: errno.EROFS}
_CONNECTIONS = 8
_STEP = 512  # keys that one step of a listing looks at


class RedisMedium(Medium):
    """Each answer is waited for `timeout_s` at most, and so are a connection and a free place
    among the few that are open. No call is tried twice."""

    tier: TierName = "remote"
    exclusive = False

    def __init__(self, url: str, timeout_s: float) -> None:
        """`redis://[user:password@]host[:port][/db][?prefix=NAME]`, `rediss://` for TLS; clusters
        that share a server differ in the prefix. Connects when it is first used.

        Raises ValueError, which quotes nothing of the URL, for one that is not of this form.
        """
        settings = _settings(url)
        host, port = settings["host"], settings.setdefault("port", 6379)
        self._shown = f"redis server {host}:{port}"
        self._secret = str(settings.get("password", ""))
        self._timeout_s = timeout_s
        self._prefix = str(settings.pop("prefix", "hyperrag"))
        self._client = Redis(
            connection_pool=BlockingConnectionPool(
                max_connections=_CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                socket_read_size=2**18,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                driver_info=None,  # or each connection begins with two more round trips
                **settings,
            )
        )

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> str:
        """An object that is there stays: its readers have its checksums, and another node's KV of
        the same tokens may differ in a late bit."""
        if (nbytes := len(header) + payload.nbytes) > MAX_VALUE_BYTES:
            raise OSError(errno.EFBIG, f"{key}: {nbytes} bytes, {self._shown} takes 512 MiB")
        name = self._name(key)
        with self._errors():
            self._client.set(name, b"".join((header, payload)), nx=True)
        return name

    def open(self, name: str) -> Source:
        with self._errors():
            nbytes = self._client.strlen(name)
        if not nbytes:
            raise self._gone(name)
        return _RedisSource(self, name, nbytes)

    def read(self, name: str, into: memoryview, offset: int) -> int:
        """What an open source reads: in one round trip, bytes that were there."""
        with self._errors():
            data = self._client.getrange(name, offset, offset + into.nbytes - 1)
        if not data:
            raise self._gone(name)
        into[: len(data)] = data
        return len(data)

    def find(self, key: SegmentKey) -> str | None:
        name = self._name(key)
        with self._errors():
            return name if self._client.exists(name) else None

    def list(self) -> Iterator[Listed]:
        """In small steps, between which the server does its other work."""
        ours = re.compile(re.escape(self._prefix.encode()) + rb":[0-9a-f]{16}-[0-9a-f]{64}")
        match = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + ":*"
        seen: set[str] = set()  # a step may repeat names of an earlier one
        cursor = -1
        while cursor != 0:
            with self._errors():
                cursor, found = self._client.scan(max(cursor, 0), match=match, count=_STEP)
                names = {name.decode() for name in found if ours.fullmatch(name)} - seen
                listed = _look_up(self._client, names)
            seen |= names
            yield from listed

    def delete(self, name: str) -> None:
        with self._errors():
            self._client.unlink(name)

    def set_aside(self, name: str) -> None:
        """Deletes: the server's memory is no place to keep what is damaged."""
        self.delete(name)

    @property
    def aside_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def _name(self, key: SegmentKey) -> str:
        return f"{self._prefix}:{key}"

    def _gone(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, f"{self._shown} has no {name}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's errors as OSError. `from None`: theirs may quote the password."""
        try:
            yield
        except exceptions.TimeoutError:
            text = f"{self._shown}: no answer within {self._timeout_s:g} s"
            raise TimeoutError(errno.ETIMEDOUT, text) from None
        except exceptions.RedisError as error:
            text = f"{self._shown}: {error}"
            if self._secret:
                text = text.replace(self._secret, "***")
            if isinstance(error, exceptions.ConnectionError):
                raise ConnectionError(errno.ENOTCONN, text) from None
            code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
            raise OSError(code or errno.EIO, text) from None


class _RedisSource(Source):
    """A name: each read is a call of its own, so a value that is deleted is gone for it."""

    def __init__(self, medium: RedisMedium, name: str, nbytes: int) -> None:
        self._medium, self._name, self.nbytes = medium, name, nbytes

    def read(self, into: memoryview, offset: int) -> int:
        if offset >= self.nbytes or not into.nbytes:
            return 0
        return self._medium.read(self._name, into, offset)

    def close(self) -> None:
        pass


def _look_up(client: Redis, names: set[str]) -> list[Listed]:
    """Those that are still there, with size and last use, in one round trip."""
    pipeline = client.pipeline(transaction=False)
    # Asking for a size counts as a use, after which the server's own eviction would know no order
    # any more: a server before 7.2 cannot help that and refuses the first command.
    pipeline.execute_command("CLIENT NO-TOUCH", "ON")
    for name in names:
        pipeline.object("IDLETIME", name)
        pipeline.strlen(name)
    pipeline.execute_command("CLIENT NO-TOUCH", "OFF")
    _, *answers, _ = pipeline.execute(raise_on_error=False)
    now = time.time()
    return [
        Listed(name, nbytes, now - (idle_s if isinstance(idle_s, int) else 0))
        for name, idle_s, nbytes in zip(names, answers[::2], answers[1::2], strict=True)
        if isinstance(nbytes, int) and nbytes
    ]


def _settings(url: str) -> dict[str, Any]:
    """What a connection takes. Raises ValueError that quotes nothing of the URL."""
    try:
        parts, settings = urlsplit(url), dict(parse_url(url))
    except ValueError:  # it may quote the password
        settings = {}
    if "host" not in settings or "@" in parts.query or not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError(
            "is not redis://[user:password@]host[:port][/db], with special characters of the"
            " password percent-encoded"
        ) from None
    allowed = {"prefix"} | (_TLS_OPTIONS if parts.scheme == "rediss" else set())
    if unknown := {name for name, _ in parse_qsl(parts.query)} - allowed:
        raise ValueError(
            f"has the unknown option {', '.join(sorted(unknown))}, allowed are"
            f" {', '.join(sorted(allowed))}"
        )
    return settings
