"""A real HTTP server that answers what a test tells it to, and remembers what it was asked."""

import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class Script:
    """Replies by "METHOD /path" (no query), in order; the last one repeats."""

    asked: list[Asked] = field(default_factory=list)
    replies: dict[str, deque[tuple[int, str, bytes]]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    def reply(self, route: str, body: Any, status: int = 200) -> None:
        self.raw(route, json.dumps(body).encode(), status)

    def raw(self, route: str, body: bytes, status: int = 200, kind: str = "text/plain") -> None:
        self.replies[route].append((status, kind, body))

    def events(self, route: str, *events: Any) -> None:
        lines = (e if isinstance(e, str) else json.dumps(e) for e in events)
        body = "".join(f"data: {line}\n\n" for line in lines).encode()
        self.raw(route, body, kind="text/event-stream")

    def next_reply(self, route: str) -> tuple[int, str, bytes]:
        queue = self.replies[route]
        return queue.popleft() if len(queue) > 1 else queue[0]


def make_server(script: Script) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            script.asked.append(Asked(self.command, self.path, body, dict(self.headers)))
            route = f"{self.command} {self.path.split('?')[0]}"
            status, kind, content = script.next_reply(route)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
