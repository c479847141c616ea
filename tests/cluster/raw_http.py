"""A request as bytes, of which the rest never comes."""

import socket
from urllib.parse import urlsplit


def begun(url: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """What answers the beginning of a POST, until the server closes the connection or nothing more
    comes for three seconds."""
    where = urlsplit(url)
    lines = (f"POST {path} HTTP/1.1", f"Host: {where.netloc}", *headers, "", "")
    with socket.create_connection((str(where.hostname), int(where.port or 0)), 20) as peer:
        peer.sendall("\r\n".join(lines).encode() + body)
        answer = b""
        try:
            while piece := peer.recv(4096):
                answer += piece
                peer.settimeout(3)
        except TimeoutError:
            assert answer, "no answer in twenty seconds"
            answer += b"(open)"
        return answer
