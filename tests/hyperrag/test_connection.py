"""Which variables of the environment a client reads, against real servers."""

import os
from pathlib import Path

import httpx
import pytest

from hyperrag import Client, HyperRagError, SettingError, UnreachableError
from hyperrag.connection import Proxy, proxy_for
from tests.hyperrag.conftest import Service

NOBODY = "http://127.0.0.1:9"
FAR = "http://rag.example"


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of them."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("SSL"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("value", [NOBODY, "foo://x", "socks5://127.0.0.1:9"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_reached_directly(
    service: Service, monkeypatch: pytest.MonkeyPatch, name: str, value: str, host: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("SSL_CERT_FILE", "/none")
    service.script.reply("GET /v1/status", {"up": True})
    with Client(service.url.replace("127.0.0.1", host)) as client:
        assert client.status() == {"up": True}


HERE = ["[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.9.9.9", "a.localhost"]


@pytest.mark.parametrize("host", HERE)
def test_this_machine_has_many_names(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOBODY)
    assert proxy_for(httpx.URL(f"http://{host}:8000")) is None
    assert proxy_for(httpx.URL("http://localhost.example:8000")) == Proxy(NOBODY, "HTTP_PROXY")


def test_another_machine_is_reached_through_its_proxy(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", service.url.removeprefix("http://"))
    monkeypatch.setenv("HTTPS_PROXY", "foo://x")
    service.script.reply(f"GET {FAR}/v1/status", {"up": True})
    with Client(FAR) as client:
        assert client.status() == {"up": True}
    monkeypatch.setenv("NO_PROXY", "rag.example")
    with Client(FAR, timeout_s=5) as client, pytest.raises(UnreachableError) as caught:
        client.status()
    assert "proxy" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name", "value"),
    [
        (FAR, "HTTP_PROXY", "foo://x"),
        (FAR, "HTTP_PROXY", "http://h:port"),
        (FAR, "ALL_PROXY", "socks5://127.0.0.1:9"),
        ("https://rag.example", "HTTPS_PROXY", "foo://x"),
        ("https://rag.example", "SSL_CERT_FILE", "/none"),
        ("https://rag.example", "SSL_CERT_FILE", __file__),
        ("https://rag.example", "SSL_CERT_FILE", str(Path(__file__).parent)),
        ("https://rag.example", "SSL_CERT_DIR", "/none"),
        ("https://rag.example", "SSLKEYLOGFILE", "/none/keys"),
        ("https://localhost", "SSL_CERT_FILE", "/none"),
    ],
)
def test_a_wrong_variable_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError) as caught:
        Client(url)
    message = str(caught.value)
    assert name in message and value in message and "\n" not in message
    assert isinstance(caught.value, HyperRagError)


def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("all_proxy", "http://user:secret@127.0.0.1:9")
    with Client(FAR, timeout_s=2) as client, pytest.raises(UnreachableError) as caught:
        client.status()
    message = str(caught.value)
    assert f"{FAR}, through the proxy http://127.0.0.1:9 of all_proxy, cannot" in message
    assert "secret" not in message
    monkeypatch.setenv("all_proxy", "foo://user:secret@[")
    with pytest.raises(SettingError) as wrong:
        Client(FAR)
    assert "all_proxy" in str(wrong.value) and "secret" not in str(wrong.value)
