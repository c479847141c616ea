"""The probe of containers, against a real server."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cluster.probe import main


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/busy" else 200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_it_succeeds_when_all_of_them_answer(url: str) -> None:
    assert main([f"{url}/a", f"{url}/b"]) == 0


def test_no_proxy_of_the_environment_is_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert main([url]) == 0


def test_it_says_which_one_does_not(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{url}/a", f"{url}/busy"]) == 1
    assert f"{url}/busy: HTTP Error 503" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_a_failure(url: str) -> None:
    assert main(["http://127.0.0.1:9/"]) == 1
