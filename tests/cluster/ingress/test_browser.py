"""What a page in a browser can do to a service without keys on its user's machine."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp

from tests.cluster.ingress.browser import Browser, browsing, why_not
from tests.cluster.ingress.conftest import DOCUMENTS
from tests.cluster.listening import listening

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

REBOUND = "rebound.example"
REFUSED = "TypeError: Failed to fetch"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser"), REBOUND) as window:
        yield window


@pytest.fixture
def page() -> Iterator[str]:
    """Origin of a page that is not the service's."""
    with listening(HTMLResponse("<title>page</title>")) as url:
        yield url


@pytest.fixture
def serve(make_app: Callable[..., ASGIApp]) -> Iterator[Callable[..., str]]:
    """Starts the service with DOCUMENTS in it; its URL."""
    with ExitStack() as stack:

        def start(**ingress: Any) -> str:
            url = stack.enter_context(listening(make_app(**ingress)))
            httpx.post(f"{url}/v1/documents", json={"documents": DOCUMENTS}).raise_for_status()
            return url

        yield start


def stored(url: str) -> list[str]:
    return [d["id"] for d in httpx.get(f"{url}/v1/documents").json()["documents"]]


def posted(body: Any, kind: str) -> str:
    return json.dumps(
        {"method": "POST", "headers": {"Content-Type": kind}, "body": json.dumps(body)}
    )


NEW = {"id": "new", "text": "written by a page"}
FORM = """{method: 'POST', body: (() => {
    const form = new FormData();
    form.append('file', new Blob(['x']), 'a.txt');
    return form;
})()}"""


def test_a_page_of_another_origin_neither_reads_nor_writes(
    browser: Browser, page: str, serve: Callable[..., str]
) -> None:
    url = serve()
    before = stored(url)
    browser.open(page)
    assert browser.fetch(f"{url}/v1/documents") == REFUSED
    for options in (posted(NEW, "text/plain"), posted(NEW, "application/json"), FORM):
        assert browser.fetch(f"{url}/v1/documents", options) == REFUSED
        blind = browser.fetch(f"{url}/v1/documents", f"{{...{options}, mode: 'no-cors'}}")
        assert blind in ("0 ", REFUSED), "sent, and nothing of the answer is seen"
    assert browser.fetch(f"{url}/v1/documents/sky", "{method: 'DELETE'}") == REFUSED
    assert stored(url) == before


def test_a_name_that_was_turned_to_this_machine_neither_reads_nor_writes(
    browser: Browser, serve: Callable[..., str]
) -> None:
    url = serve()
    before = stored(url)
    browser.open(f"http://{REBOUND}:{url.rpartition(':')[2]}/healthz")  # the service's own origin
    for options in ("{}", posted(NEW, "application/json"), FORM):
        assert browser.fetch("/v1/documents", options).startswith("403 ")
    assert "sky" not in browser.fetch("/v1/documents")
    assert stored(url) == before


def test_a_page_of_a_listed_origin_reads_writes_streams_and_sees_errors(
    browser: Browser, page: str, serve: Callable[..., str]
) -> None:
    url = serve(cors_origins=(page,))
    browser.open(page)
    assert '"id":"sky"' in browser.fetch(f"{url}/v1/documents")
    answer = browser.fetch(f"{url}/v1/documents", posted(NEW, "application/json"))
    assert answer.startswith("200 ") and "new" in stored(url)
    question = {"question": "is the sky blue", "stream": True}
    answer = browser.fetch(f"{url}/v1/rag/query", posted(question, "application/json"))
    assert answer.startswith("200 data: ") and "[DONE]" in answer
    answer = browser.fetch(f"{url}/v1/rag/query", posted({}, "application/json"))
    assert answer.startswith("400 ") and "question" in answer
    assert browser.fetch(f"{url}/v1/documents/new", "{method: 'DELETE'}").startswith("200 ")


def test_the_services_own_page_may_call_it(browser: Browser, serve: Callable[..., str]) -> None:
    url = serve()
    browser.open(f"{url}/healthz")
    answer = browser.fetch("/v1/documents", posted(NEW, "application/json"))
    assert answer.startswith("200 ") and "new" in stored(url)
