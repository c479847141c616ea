"""HTTP of the client: one place that turns every failure into a HyperRagError."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from hyperrag.connection import connect
from hyperrag.errors import HyperRagError, UnreachableError
from hyperrag.sse import event_data

Json = dict[str, Any]
DONE = b"[DONE]"


class Transport:
    """JSON over one connection pool. Thread-safe; does not retry."""

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0))
        self.base_url = base_url.rstrip("/")
        self._http, self._proxy = connect(self.base_url, headers, timeout)

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, body: Any = None, **params: Any) -> Json:
        """The JSON object of the answer. Parameters that are None are left out."""
        query = {name: value for name, value in params.items() if value is not None}
        with self._reachable():
            response = self._http.request(method, path, json=body, params=query)
        _raise_for_error(response)
        return _object(response)

    def events(self, path: str, body: Any) -> Iterator[Json]:
        """The objects of a stream of server-sent events, until `[DONE]`. Raises HyperRagError
        for an error event and for a stream that ends without `[DONE]`."""
        with self._reachable(), self._http.stream("POST", path, json=body) as response:
            if response.is_error:
                response.read()
                _raise_for_error(response)
            for data in event_data(response.iter_bytes()):
                if data.strip() == DONE:
                    return
                yield _event(data)
        raise UnreachableError("the answer broke off before its end")

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise UnreachableError(f"{self._where} did not answer in time") from error
        except httpx.InvalidURL as error:
            raise UnreachableError(f"{self.base_url} is not a URL: {error}") from error
        except httpx.TransportError as error:
            raise UnreachableError(f"{self._where} cannot be reached: {error}") from error

    @property
    def _where(self) -> str:
        way = f", through the proxy {self._proxy}," if self._proxy else ""
        return self.base_url + way


def _event(data: bytes) -> Json:
    try:
        event = json.loads(data.decode())
    except ValueError as error:
        raise HyperRagError("an event of the answer is not JSON") from error
    if not isinstance(event, dict):
        raise HyperRagError("an event of the answer is not a JSON object")
    if "error" in event:
        raise _error(event, None)
    return event


def _raise_for_error(response: httpx.Response) -> None:
    if not response.is_error:
        return
    try:
        data = response.json()
    except ValueError:
        data = None
    if not isinstance(data, dict):
        data = {"message": response.text[:200] or response.reason_phrase}
    raise _error(data, response.status_code)


def _error(data: Mapping[str, Any], status: int | None) -> HyperRagError:
    """`status` is None for an event: the headers said 200 before anything went wrong."""
    error = data.get("error")
    if not isinstance(error, dict):
        error = {"message": error or data.get("message") or data.get("detail")}
    code = error.get("code")
    return HyperRagError(
        str(error.get("message") or "the service gave no reason"),
        code if isinstance(code, int) else status,
        error.get("param"),
    )


def _object(response: httpx.Response) -> Json:
    try:
        data = response.json()
    except ValueError as error:
        raise HyperRagError("the answer is not JSON", response.status_code) from error
    if not isinstance(data, dict):
        raise HyperRagError("the answer is not a JSON object", response.status_code)
    return data
