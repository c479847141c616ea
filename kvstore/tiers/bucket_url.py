"""Which file system a bucket's URL means, with the time-outs that it can be given."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_S3_OPTIONS = {"region", "scheme", "endpoint_override"}


def connect(url: str, timeout_s: float) -> tuple[Any, str]:
    """The `pyarrow.fs.FileSystem` of a URL, and the folder in it.

    Raises ValueError for a URL that cannot work, OSError when a library or name node is missing.
    """
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
