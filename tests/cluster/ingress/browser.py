"""A real Chromium, told by the WebDriver protocol what to do."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_S = 60.0
_TOOLS = ("chromium", "chromedriver")


def why_not() -> str:
    """Why there can be no browser here; empty: there can."""
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)}: apt-get install chromium chromium-driver"
    return ""


class Browser:
    """One window."""

    def __init__(self, driver: httpx.Client, session: str) -> None:
        self._driver, self._session = driver, session

    def open(self, url: str) -> None:
        self._ask("url", {"url": url})

    def run(self, script: str) -> Any:
        """The result of the body of an async function, in the page that is open."""
        told = ".then(arguments[0], error => arguments[0](String(error)));"
        call = f"(async () => {{ {script} }})(){told}"
        return self._ask("execute/async", {"script": call, "args": []})

    def fetch(self, url: str, options: str = "{}") -> str:
        """Status and body of what the page gets, or the error that it is told."""
        return str(
            self.run(
                f"const r = await fetch('{url}', {options});"
                "return `${r.status} ${await r.text()}`;"
            )
        )

    def _ask(self, command: str, body: dict[str, Any]) -> Any:
        answer = self._driver.post(f"/session/{self._session}/{command}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def browsing(folder: Path, names: str) -> Iterator[Browser]:
    """`names`: host names that lead to this machine, as whoever owns them can have it."""
    command = ["chromedriver", "--port=0", f"--log-path={folder / 'driver.log'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        try:
            with httpx.Client(base_url=_url(driver), timeout=START_S, trust_env=False) as http:
                session = _session(http, folder, names)
                try:
                    yield Browser(http, session)
                finally:
                    http.delete(f"/session/{session}")
        finally:
            driver.terminate()
            driver.wait(10)


def _url(driver: subprocess.Popen[str]) -> str:
    assert driver.stdout
    for line in driver.stdout:
        if found := re.search(r"started successfully on port (\d+)", line):
            return f"http://127.0.0.1:{found[1]}"
    raise AssertionError(f"chromedriver ended: {driver.poll()}")


def _session(http: httpx.Client, folder: Path, names: str) -> str:
    flags = [
        "--headless=new",
        "--no-sandbox",  # which root's has none of
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        f"--user-data-dir={folder / 'profile'}",
        f"--host-resolver-rules=MAP {names} 127.0.0.1",
    ]
    wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": flags}}
    answer = http.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["value"]["sessionId"])
