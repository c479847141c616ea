"""The medium of a remote tier, by the scheme of `store.remote`."""

from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from kvstore.errors import StoreConfigError
from kvstore.tiers.guarded import Guarded

FAILURES = 3
"""In a row, after which the medium is left alone."""
PAUSE_S = 10.0
_BUCKETS = ("file", "s3", "gs", "hdfs")
_SERVERS = ("redis", "rediss", "valkey")


def create_medium(url: str, timeout_s: float) -> Guarded:
    """`timeout_s` bounds each call to a bucket, each wait for a server.

    Raises StoreConfigError, which shows nothing of the URL's user, password and options.
    """
    scheme = url.partition("://")[0]
    if scheme not in _BUCKETS + _SERVERS or "://" not in url:
        forms = ", ".join(f"{known}://" for known in _BUCKETS + _SERVERS)
        raise StoreConfigError(f"store.remote is {_shown(url)}, must begin with one of {forms}")
    try:
        return _server(url, timeout_s) if scheme in _SERVERS else _bucket(url, timeout_s)
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


def _bucket(url: str, timeout_s: float) -> Guarded:
    from kvstore.tiers.bucket import Bucket  # pyarrow, for those alone who keep segments there

    # What pyarrow calls can hang for good: a mount without its server, a library that tries again.
    return Guarded(Bucket(url, timeout_s), FAILURES, PAUSE_S, deadline_s=timeout_s)


def _server(url: str, timeout_s: float) -> Guarded:
    from kvstore.tiers.redis_server import RedisMedium  # likewise redis

    medium = RedisMedium(url.replace("valkey://", "redis://", 1), timeout_s)
    return Guarded(medium, FAILURES, PAUSE_S, deadline_s=None)


def _shown(url: str) -> str:
    """Without user, password and options."""
    scheme, separator, rest = url.rpartition("@")[2].rpartition("://")
    place = rest.partition("?")[0]
    return f"{url.partition('://')[0]}://***@{place}" if "@" in url else scheme + separator + place
