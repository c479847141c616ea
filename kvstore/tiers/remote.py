"""The medium of a remote tier, by the scheme of `store.remote`."""

import logging
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from kvstore.codec import NOBODY
from kvstore.compression import RAW, Codec
from kvstore.errors import StoreConfigError
from kvstore.tiers.bucket import IN_OTHER_USE, Bucket
from kvstore.tiers.bucket_url import connect
from kvstore.tiers.deadline import Deadline
from kvstore.tiers.guarded import Guarded

logger = logging.getLogger(__name__)

FAILURES = 3
"""In a row, after which the medium is left alone."""
PAUSE_S = 10.0
LISTING_S = 60.0
"""For the names of one of a bucket's 256 folders."""
_BUCKETS = ("file", "s3", "gs", "hdfs")
_SERVERS = ("redis", "rediss", "valkey")


def create_medium(url: str, timeout_s: float, seal: bytes = NOBODY, codec: Codec = RAW) -> Guarded:
    """`timeout_s` bounds each call to a bucket, each wait for a server. `seal`: which objects are
    found (`kvstore/seal.py`). `codec`: that of the store.

    Raises StoreConfigError, which shows nothing of the URL's user, password and options.
    """
    scheme = url.partition("://")[0]
    if scheme not in _BUCKETS + _SERVERS or "://" not in url:
        forms = ", ".join(f"{known}://" for known in _BUCKETS + _SERVERS)
        raise StoreConfigError(f"store.remote is {_shown(url)}, must begin with one of {forms}")
    try:
        make = _server if scheme in _SERVERS else _bucket
        return make(url, timeout_s, seal, codec)
    except ImportError as error:
        package = "redis" if scheme in _SERVERS else "pyarrow"
        raise StoreConfigError(
            f"store.remote is {_shown(url)}, which needs a package: pip install {package} ({error})"
        ) from error
    except (ValueError, OSError) as error:
        text = str(error).replace(url, _shown(url))
        raise StoreConfigError(f"store.remote is {_shown(url)}: {text}") from None


def with_secret(url: str, secret_file: str) -> str:
    """The URL with what the file holds: `password` or `user:password` (a password with a
    colon is `:password`). Raises StoreConfigError,
    which shows nothing of it."""
    if not secret_file:
        return url
    try:
        secret = Path(secret_file).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StoreConfigError(f"store.remote_secret_file {secret_file}: {error}") from error
    user, separator, password = secret.partition(":")
    if not separator:
        user, password = "", secret
    parts = urlsplit(url)
    named, _, host = parts.netloc.rpartition("@")
    return urlunsplit(
        parts._replace(netloc=f"{quote(user, safe='') or named}:{quote(password, safe='')}@{host}")
    )


def _bucket(url: str, timeout_s: float, seal: bytes, codec: Codec) -> Guarded:
    """Raises ValueError for a bucket that is in other use; one that does not answer now is
    asked again before it is used."""
    bucket = Bucket(connect(url, timeout_s), seal, codec)
    # These calls can hang for good: a mount without its server, a library that tries again.
    try:
        if not Deadline(timeout_s, 1).run(bucket.claim):
            raise ValueError(IN_OTHER_USE)
    except OSError as error:
        logger.warning("store.remote %s does not answer yet: %s", _shown(url), error)
    return Guarded(bucket, FAILURES, PAUSE_S, deadline_s=timeout_s, listing_s=LISTING_S)


def _server(url: str, timeout_s: float, seal: bytes, codec: Codec) -> Guarded:
    from kvstore.tiers.redis_server import RedisMedium  # likewise redis

    _warn_of_plain_text(url)
    medium = RedisMedium(url.replace("valkey://", "redis://", 1), timeout_s, seal, codec)
    return Guarded(medium, FAILURES, PAUSE_S, deadline_s=None)


def _warn_of_plain_text(url: str) -> None:
    """KV and a password that everybody on the way can read."""
    parts = urlsplit(url)
    reasons = []
    if parts.password:
        reasons.append("the password")
    if not _is_loopback(parts.hostname or ""):
        reasons.append("KV")
    if parts.scheme != "rediss" and reasons:
        text = "store.remote %s sends %s in plain text: rediss:// encrypts"
        logger.warning(text, _shown(url), " and ".join(reasons))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(url: str) -> str:
    """Without user, password and options."""
    scheme, separator, rest = url.rpartition("@")[2].rpartition("://")
    place = rest.partition("?")[0]
    return f"{url.partition('://')[0]}://***@{place}" if "@" in url else scheme + separator + place
