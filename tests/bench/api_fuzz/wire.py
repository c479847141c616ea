"""Requests as bytes on a connection of their own: what no client library would send."""

import socket
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse

PATIENCE_S = 300.0
"""For an answer: a shared machine may be slow, and slowness is not what is looked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: the connection ended without one."""

    status: int
    content_type: str = ""
    body: bytes = b""


def raw(
    method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    """`headers` go over the usual ones; an empty value leaves one out."""
    usual = {"Host": "127.0.0.1", "Connection": "close"}
    if body:
        usual |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in (usual | (headers or {})).items() if value]
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""])
    return head.encode("latin-1") + body


def send(port: int, request: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        response = HTTPResponse(connection, method=request.partition(b" ")[0].decode("latin-1"))
        try:
            connection.sendall(request)
            response.begin()
            body = response.read()
        except (OSError, HTTPException):
            return Answer(0)
        return Answer(response.status, response.headers.get_content_type(), body)
