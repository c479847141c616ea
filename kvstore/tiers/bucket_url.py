"""Which place a bucket's URL means, with the time-outs that it can be given."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from kvstore.tiers.arrow_place import ArrowPlace
from kvstore.tiers.local_place import LocalPlace
from kvstore.tiers.place import Place

_S3_OPTIONS = {"region", "scheme", "endpoint_override"}


def connect(url: str, timeout_s: float) -> Place:
    """Connects when it is first used, except to HDFS.

    Raises ValueError for a URL that cannot work, OSError when a library or name node is missing.
    """
    if url.startswith("file:"):
        return LocalPlace(_local_base(url))
    fs, base = _file_system(url, timeout_s)
    if not (base := base.rstrip("/")):
        raise ValueError("names no folder or bucket")
    return ArrowPlace(fs, base)


def _local_base(url: str) -> Path:
    parts = urlsplit(url)
    base = Path(unquote(parts.path))
    if parts.netloc or parts.query or base == Path("/") or not base.is_absolute():
        raise ValueError("is not file:///FOLDER")
    return base


def _file_system(url: str, timeout_s: float) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    if url.startswith("s3:"):
        return _s3(url, timeout_s)
    if url.startswith("gs:"):
        url += f"{'&' if '?' in url else '?'}retry_limit_seconds={timeout_s:g}"
    fs, base = FileSystem.from_uri(url)
    return fs, base


def _s3(url: str, timeout_s: float) -> tuple[Any, str]:
    """Without `from_uri`, which takes no timeouts and asks the network for the region."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if unknown := options.keys() - _S3_OPTIONS:
        raise ValueError(
            f"has the unknown option {', '.join(sorted(unknown))}, allowed are"
            f" {', '.join(sorted(_S3_OPTIONS))}"
        )
    user, _, bucket = parts.netloc.rpartition("@")
    access_key, _, secret_key = user.partition(":")
    fs = S3FileSystem(
        access_key=unquote(access_key) or None,
        secret_key=unquote(secret_key) or None,
        request_timeout=timeout_s,
        connect_timeout=timeout_s,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=2),
        allow_delayed_open=True,  # a small object is one request
        **options,
    )
    return fs, bucket + parts.path
