"""Segments on one Redis or Valkey server, which several nodes share.

    <prefix>:v4:<seal>:<placement>-<digest>     header and payload, one string value
    <prefix>:v4:...-<digest>:int8, :fp8         the same with less precision

One value is one object: SET makes it visible whole, GETRANGE reads a layer of it. A server that
evicts or restarts empty makes misses, nothing worse. How lasting a write is, the server's
configuration decides (`appendonly`); KV that can be computed again needs none of it.

An object's name is its key with its writer behind it: a delete compares the writer on the server,
so an object that another store wrote under the same key meanwhile stays. A listing reads the label
of each value (144 bytes) in the round trip that asks for its size, 512 at a time. Keys of another
form, and values that are no strings, are left alone.
"""

import errno
import re
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from redis import BlockingConnectionPool, Redis, exceptions
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from kvstore.codec import LABEL_NBYTES, NOBODY, VERSION, WRITER_AT, decode_header, decode_label
from kvstore.compression import ALL_CODECS, RAW, Codec
from kvstore.errors import CorruptSegmentError
from kvstore.tiers.medium import Listed, Medium, Source, Written, preferred
from kvstore.tiers.redis_connection import MAX_READ_BYTES, BoundedConnection, BoundedTLSConnection
from kvstore.types import SegmentKey, TierName

MAX_VALUE_BYTES = 512 * 2**20
"""What a server takes as one string unless its `proto-max-bulk-len` says otherwise."""
_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}
_CODES = {exceptions.OutOfMemoryError: errno.ENOSPC, exceptions.ReadOnlyError: errno.EROFS}
_CONNECTIONS = 8
_STEP = 512  # keys that one step of a listing looks at
_DELETE = f"""
if redis.call('GETRANGE', KEYS[1], {WRITER_AT}, {WRITER_AT + 7}) == ARGV[1] then
    return redis.call('UNLINK', KEYS[1])
end
return 0
"""


class RedisMedium(Medium):
    """Each answer is waited for `timeout_s` at most, and so are a connection and a free place
    among the few that are open. It has a bound in bytes too (`redis_connection.py`). No call is
    tried twice."""

    tier: TierName = "remote"
    exclusive = False

    def __init__(
        self, url: str, timeout_s: float, seal: bytes = NOBODY, codec: Codec = RAW
    ) -> None:
        """`redis://[user:password@]host[:port][/db][?prefix=NAME]`, `rediss://` for TLS; clusters
        that share a server differ in the prefix. Connects when it is first used.

        Raises ValueError, which quotes nothing of the URL, for one that is not of this form.
        """
        settings = _settings(url)
        host, port = settings["host"], settings.setdefault("port", 6379)
        self._shown = f"redis server {host}:{port}"
        self._secret = str(settings.get("password", ""))
        self._timeout_s = timeout_s
        self._prefix = f"{settings.pop('prefix', 'hyperrag')}:v{VERSION}:"
        self._seal = seal
        self._codec = codec
        is_secure = settings.pop("connection_class", None) is not None
        self._client = Redis(
            connection_pool=BlockingConnectionPool(
                connection_class=BoundedTLSConnection if is_secure else BoundedConnection,
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

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        """An object that is there stays: its readers have its checksums, and another node's KV of
        the same tokens may differ in a late bit."""
        if (nbytes := len(header) + payload.nbytes) > MAX_VALUE_BYTES:
            raise OSError(errno.EFBIG, f"{key}: {nbytes} bytes, {self._shown} takes 512 MiB")
        label = decode_header(header, str(key)).label
        place = self._place(key, label.seal, label.codec)
        with self._errors():
            is_new = bool(self._client.set(place, b"".join((header, payload)), nx=True))
        present = None if is_new else self._find([place])
        return Written(present.name if present else _name(place, label.writer), is_new)

    def open(self, name: str) -> Source:
        with self._errors():
            nbytes = self._client.strlen(_place_of(name))
            if not isinstance(nbytes, int) or nbytes < 0:
                raise TypeError(type(nbytes))
        if not nbytes:
            raise self._gone(name)
        return _RedisSource(self, name, nbytes)

    def read(self, name: str, into: memoryview, offset: int) -> int:
        """What an open source reads: in one round trip, bytes that were there. Of a large read the
        first part."""
        into = into[:MAX_READ_BYTES]
        with self._errors():
            data = self._client.getrange(_place_of(name), offset, offset + into.nbytes - 1)
            if not isinstance(data, bytes):
                raise TypeError(type(data))
        if not data:
            raise self._gone(name)
        if len(data) > into.nbytes:
            raise OSError(errno.EPROTO, f"{self._shown} sent {len(data)} bytes of {into.nbytes}")
        into[: len(data)] = data
        return len(data)

    def find(self, key: SegmentKey) -> Listed | None:
        return self._find([self._place(key, self._seal, codec) for codec in ALL_CODECS])

    def list(self) -> Iterator[Listed]:
        """In small steps, between which the server does its other work."""
        key = rb"[0-9a-f]{16}:[0-9a-f]{16}-[0-9a-f]{64}(:[a-z0-9]+)?"
        ours = re.compile(re.escape(self._prefix.encode()) + key)
        match = re.sub(r"([*?\[\]\\^-])", r"\\\1", self._prefix) + "*"
        seen: set[str] = set()  # a step may repeat names of an earlier one
        cursor = -1
        while cursor != 0:
            with self._errors():
                cursor, found = self._client.scan(max(cursor, 0), match=match, count=_STEP)
                places = {place.decode() for place in found if ours.fullmatch(place)}
                listed = _look_up(self._client, places)
            yield from (each for each in listed if each.name not in seen)
            seen = {each.name for each in listed}

    def delete(self, name: str) -> None:
        writer = bytes.fromhex(name.rpartition("@")[2])
        with suppress(FileNotFoundError), self._errors():
            self._client.eval(_DELETE, 1, _place_of(name), writer)

    def set_aside(self, name: str) -> None:
        """Deletes: the server's memory is no place to keep what is damaged."""
        self.delete(name)

    @property
    def aside_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._client.connection_pool.disconnect()

    def _place(self, key: SegmentKey, seal: bytes, codec: Codec) -> str:
        """The server's key of it."""
        return f"{self._prefix}{_end_of_place(key, seal, codec)}"

    def _find(self, places: Sequence[str]) -> Listed | None:
        with self._errors():
            return preferred(_look_up(self._client, places), self._codec)

    def _gone(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, f"{self._shown} has no {name}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The client's errors as OSError, and what comes of a reply of another type than the
        command's: it is some other server. `from None`: theirs may quote the password."""
        try:
            yield
        except exceptions.TimeoutError:
            text = f"{self._shown}: no answer within {self._timeout_s:g} s"
            raise TimeoutError(errno.ETIMEDOUT, text) from None
        except exceptions.RedisError as error:
            text = f"{self._shown}: {error}"
            if self._secret:
                text = text.replace(self._secret, "***")
            if str(error).startswith("WRONGTYPE"):
                raise FileNotFoundError(errno.ENOENT, text) from None
            if isinstance(error, exceptions.ConnectionError):
                raise ConnectionError(errno.ENOTCONN, text) from None
            code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
            raise OSError(code or errno.EIO, text) from None
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            text = f"{self._shown} sent what is no answer: {type(error).__name__}"
            raise OSError(errno.EPROTO, text) from None


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


def _end_of_place(key: SegmentKey, seal: bytes, codec: Codec) -> str:
    """Exact and inexact objects of a segment stand beside each other: a store of another codec
    replaces nothing that others serve."""
    end = "" if codec.lossless else f":{codec.name}"
    return f"{seal.hex()}:{key}{end}"


def _look_up(client: Redis, places: Collection[str]) -> list[Listed]:
    """Those that are there, with size, last use and label, in one round trip."""
    pipeline = client.pipeline(transaction=False)
    # Asking for a size counts as a use, after which the server's own eviction would know no order
    # any more: a server before 7.2 cannot help that and refuses the first command.
    pipeline.execute_command("CLIENT NO-TOUCH", "ON")
    for place in places:
        pipeline.object("IDLETIME", place)
        pipeline.strlen(place)
        pipeline.getrange(place, 0, LABEL_NBYTES - 1)
    pipeline.execute_command("CLIENT NO-TOUCH", "OFF")
    _, *answers, _ = pipeline.execute(raise_on_error=False)
    each = zip(places, answers[::3], answers[1::3], answers[2::3], strict=True)
    return [listed for answer in each if (listed := _listed(*answer))]


def _listed(place: str, idle_s: object, nbytes: object, start: object) -> Listed | None:
    """None for what is gone, no string, or not what its key and its label say: that is nobody's
    hit."""
    if not isinstance(start, bytes):
        return None
    try:
        label = decode_label(start, place)
    except CorruptSegmentError:
        return None
    end = _end_of_place(label.spec.key, label.seal, label.codec)
    if nbytes != label.nbytes or not place.endswith(f":{end}"):
        return None
    last_use = time.time() - (idle_s if isinstance(idle_s, int) else 0)
    return Listed(_name(place, label.writer), label.nbytes, last_use, label)


def _name(place: str, writer: bytes) -> str:
    return f"{place}@{writer.hex()}"


def _place_of(name: str) -> str:
    return name.rpartition("@")[0]


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
