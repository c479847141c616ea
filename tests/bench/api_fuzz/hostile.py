"""200 requests of our own, each of which is HTTP; and bytes that are not, which Serve's proxy
refuses before the service sees them."""

import gzip
import json
from collections.abc import Iterator
from itertools import cycle, islice

from tests.bench.api_fuzz.wire import Request, request

COUNT = 200
LIMIT = 64 * 2**20
"""`ingress.max_body_bytes`."""

_RERANK = b'{"query": "a", "documents": ["b", "c"]}'
_BODIES = {
    "no JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"a"',
    "a number": b"7",
    "NaN": b'{"query": NaN, "question": NaN, "text": NaN, "top_n": NaN}',
    "infinity": b'{"temperature": 1e999, "top_n": 1e999, "limit": 1e999}',
    "10,000 digits": b'{"top_n": ' + b"9" * 10_000 + b"}",
    "the largest integer and one": b'{"seed": 18446744073709551616, "limit": 18446744073709551616}',
    "200,000 levels": b"[" * 200_000,
    "900 levels": b'{"a":' * 900 + b"1" + b"}" * 900,
    "a lone surrogate": b'{"query": "\\ud800", "question": "\\ud800", "text": "\\ud800"}',
    "a surrogate as a name": b'{"\\ud800": 1}',
    "NUL": b'{"query": "\\u0000", "question": "a\\u0000", "text": "\\u0000", "node": "\\u0000"}',
    "NUL as a name": b'{"\\u0000": 1}',
    "not UTF-8": b'{"query": "\xff\xfe"}',
    "UTF-16": json.dumps({"query": "a"}).encode("utf-16"),
    "UTF-32": json.dumps({"query": "a"}).encode("utf-32"),
    "a byte order mark alone": b"\xef\xbb\xbf",
    "white space": b" \n\t",
    "the same field twice": b'{"question": "a", "question": [], "query": 1, "query": "b"}',
    "a name of a megabyte": b'{"' + b"a" * 2**20 + b'": 1}',
    "100,000 fields": json.dumps({str(i): i for i in range(100_000)}).encode(),
    "100,000 entries": json.dumps({"query": "a", "documents": ["b"] * 100_000}).encode(),
    "objects for texts": b'{"query": {}, "question": {}, "text": {}, "prompt": {}, "node": {}}',
    "lists for texts": b'{"query": [[]], "question": [[]], "text": [[]], "messages": [[]]}',
    "names of methods": b'{"__class__": 1, "__proto__": {}, "constructor": 1, "model_fields": 1}',
    "a null in a list": b'{"messages": [null], "documents": [null], "query": "a", "stop": [null]}',
    "gzip": gzip.compress(_RERANK),
}
_BODY_PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/rag/query", "/v1/rag/candidates", "/v1/rerank",
    "/v1/documents", "/v1/warm", "/v1/check", "/v1/drain",
)  # fmt: skip
_HEADERS: dict[str, dict[str, str]] = {
    "a foreign host": {"Host": "evil.example"},
    "no host": {"Host": ""},
    "a host of nothing but signs": {"Host": "[::]:::]"},
    "a foreign origin": {"Origin": "https://evil.example"},
    "the origin null": {"Origin": "null"},
    "an origin that is no URL": {"Origin": "http://[::1"},
    "bytes in the origin": {"Origin": "\xff\xfe"},
    "a request id with blanks": {"X-Request-Id": "a b"},
    "a long request id": {"X-Request-Id": "a" * 5000},
    "a key of bytes": {"Authorization": "Bearer \xff\xfe"},
    "a key of another kind": {"Authorization": "Basic Og=="},
    "a trace of nonsense": {"Traceparent": "00-zz-\xff-01"},
    "a content type of bytes": {"Content-Type": "\xff\xfe"},
    "a content type without a kind": {"Content-Type": "application/"},
    "an unknown character set": {"Content-Type": "application/json; charset=klingon"},
    "two encodings": {"Content-Encoding": "gzip, br"},
    "an unknown expectation": {"Expect": "the-unexpected"},
    "a range": {"Range": "bytes=9-1,-,a"},
    "an upgrade": {"Connection": "Upgrade", "Upgrade": "h2c"},
    "cookies": {"Cookie": "a=" + "b" * 4000},
    "200 headers": {f"X-{i}": "a" for i in range(200)},
    "a header of 60,000 bytes": {"X-Long": "a" * 60_000},
    "nothing to accept": {"Accept": "image/\xff;q=nan, */*;q=-1"},
    "another length for one body": {"X-Content-Length": "-1", "X-Http-Method-Override": "DELETE"},
}
_METHODS = ("OPTIONS", "HEAD", "PUT", "PATCH", "TRACE", "DELETE", "PROPFIND", "POST", "GET")
_METHOD_PATHS = ("/healthz", "/v1/models", "/v1/documents", "/v1/rerank")
_TARGETS = (
    "/", "//", "//v1/models", "/v1/models/", "/v1/../v1/models", "/v1/%2e%2e/models", "/V1/MODELS",
    "/%00", "/%ff%fe", "/v1/models%00", "/v1/models;a=b", "/" + "a" * 9000, "/-/nothing",
    "/favicon.ico", "/.env", "http://evil.example/v1/models", "/v1/models?" + "a=b&" * 2000,
    "/v1/documents?collection=../..", "/v1/documents?collection=%00", "/v1/documents?collection=",
    "/v1/documents?collection=%ff", "/v1/documents?collection=a&collection=b",
    "/v1/documents?limit=nan", "/v1/documents?limit=-1", "/v1/documents?limit=" + "9" * 5000,
    "/v1/documents?limit=%d9%a3", "/v1/documents?limit=1e2", "/v1/documents?after=%00",
    "/v1/documents?after=%ff", "/v1/documents?after=" + "a" * 9000, "/v1/documents?%ff=%fe&&==&",
    "/metrics?name[]=a",
)  # fmt: skip
_DELETED = ("%00", "%ff", "..%2f..", "a" * 9000, "a%0d%0aX: b", "%ed%a0%80", "a?collection=%00")
_PART = b'Content-Disposition: form-data; name="file"; filename='
_UPLOADS = {
    "no file": b"--b--\r\n",
    "another boundary": b'--c\r\n\r\na\r\n--c--\r\n',
    "cut off": b"--b\r\n" + _PART + b'"a.txt"\r\n\r\nhalf',
    "a path for a name": b"--b\r\n" + _PART + b'"../../a.txt"\r\n\r\ntext\r\n--b--\r\n',
    "NUL in a name": b"--b\r\n" + _PART + b'"a\0.txt"\r\n\r\ntext\r\n--b--\r\n',
    "bytes for a name": b"--b\r\n" + _PART + b'"\xff\xfe.txt"\r\n\r\ntext\r\n--b--\r\n',
    "bytes for a text": b"--b\r\n" + _PART + b'"a.txt"\r\n\r\n\xff\xfe\0\r\n--b--\r\n',
    "broken JSON lines": b"--b\r\n" + _PART + b'"a.jsonl"\r\n\r\n{"text": \r\n--b--\r\n',
    "an unknown kind": b"--b\r\n" + _PART + b'"a.exe"\r\n\r\nMZ\r\n--b--\r\n',
    "2,000 fields": b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 2000
    + b"--b--\r\n",
    "a file as the collection": b"--b\r\n" + _PART.replace(b'"file"', b'"collection"')
    + b'"a"\r\n\r\na\r\n--b--\r\n',
    "a part without a name": b"--b\r\nContent-Disposition: form-data\r\n\r\na\r\n--b--\r\n",
    "no headers": b"--b\r\n\r\na\r\n--b--\r\n",
}  # fmt: skip


def hostile() -> list[Request]:
    """Bodies over all endpoints in turn, as many as there is room for beside the others."""
    others = [*_headers(), *_methods(), *_targets(), *_uploads(), *_lengths()]
    return [*others, *islice(_bodies(), COUNT - len(others))]


def no_http() -> list[Request]:
    """Bytes that Serve's proxy answers by itself, in plain text; any 4xx will do."""
    given = {
        "no request line": b"garbage\r\n\r\n",
        "an unknown method": b"FOO /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "a method in lower case": b"get /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "a target of bytes": b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        "no path": b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        "a negative length": b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "two lengths": b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\na",
        "a length and chunks": b"POST /rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\na",
        "a chunk without a size": b"POST /rerank HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    }
    return [Request(name, "GET", "", data) for name, data in given.items()]


def _bodies() -> Iterator[Request]:
    for (name, body), path in zip(cycle(_BODIES.items()), cycle(_BODY_PATHS), strict=False):
        headers = {"Content-Encoding": "gzip"} if name == "gzip" else {}
        yield request(f"{name} to {path}", "POST", path, headers, body)


def _headers() -> Iterator[Request]:
    for name, headers in _HEADERS.items():
        yield request(name, "GET", "/metrics", headers)
        yield request(name, "POST", "/v1/rerank", headers, _RERANK)


def _methods() -> Iterator[Request]:
    for method in _METHODS:
        for path in _METHOD_PATHS:
            yield request(f"{method} {path}", method, path)


def _targets() -> Iterator[Request]:
    for target in _TARGETS:
        yield request(f"GET {target[:60]}", "GET", target)
    for name in _DELETED:
        yield request(f"DELETE {name[:60]}", "DELETE", f"/v1/documents/{name.replace(' ', '%20')}")


def _uploads() -> Iterator[Request]:
    for name, body in _UPLOADS.items():
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        yield request(f"an upload, {name}", "POST", "/v1/documents", headers, body)
    headers = {"Content-Type": "multipart/form-data"}
    yield request("an upload without a boundary", "POST", "/v1/documents", headers, b"--b--")


def _lengths() -> Iterator[Request]:
    chunks = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(_RERANK), _RERANK)
    large = {"Content-Length": str(LIMIT + 1)}
    for path in ("/v1/rerank", "/v1/documents"):
        yield request("a body that is said to be too large", "POST", path, large, b"{}")
        yield request("a terabyte", "POST", path, {"Content-Length": str(2**40)}, b"{}")
        yield request("chunks", "POST", path, chunks, framed)
        yield request("no chunk", "POST", path, chunks, b"0\r\n\r\n")
