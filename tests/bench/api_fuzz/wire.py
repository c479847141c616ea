"""Requests as bytes on a connection of their own: what no client library would send."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

PATIENCE_S = 300.0
"""For an answer: a shared machine may be slow, and slowness is not what is looked for."""


@dataclass(frozen=True, slots=True)
class Request:
    name: str
    method: str
    path: str
    """Without the query: what an operation is found by."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: the connection ended without one."""

    status: int
    content_type: str = ""
    body: bytes = b""


def request(
    name: str,
    method: str,
    target: str,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Request:
    """`headers` replace the usual ones; an empty value leaves one out."""
    usual = {"Host": "127.0.0.1", "Connection": "close"}
    if body:
        usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    given = {key.title(): value for key, value in (headers or {}).items()}
    lines = [f"{key}: {value}" for key, value in (usual | given).items() if value]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
    path = re.sub("^http://[^/]*", "", target).partition("?")[0]
    return Request(name, method, path, head.encode("latin-1") + body)


def send(port: int, sent: Request) -> Answer:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        response = HTTPResponse(connection, method=sent.method)
        try:
            connection.sendall(sent.data)
            response.begin()
            body = response.read()
        except (OSError, HTTPException):
            return Answer(0)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return Answer(response.status, kind, body)
