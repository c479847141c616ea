"""The global options: which service a command talks to, and as whom."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cluster.config import load
from cluster.errors import ConfigError
from cluster.ingress.config import IngressConfig
from hyperrag.client import Client

Collection = Annotated[str | None, typer.Option(help="Collection of documents.")]


@dataclass(frozen=True, slots=True)
class Session:
    url: str | None
    api_key_file: Path | None
    timeout_s: float

    def client(self) -> Client:
        """Without `--url`, where the configuration says that `serve` listens. Raises ConfigError
        when the configuration or the key file cannot be read."""
        url = self.url or service_url(load().ingress)
        return Client(url, self._api_key(), self.timeout_s)

    def _api_key(self) -> str | None:
        if self.api_key_file is None:
            return None
        try:
            return self.api_key_file.expanduser().read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("--api-key-file", str(self.api_key_file), str(error)) from error


def service_url(ingress: IngressConfig) -> str:
    """Where a client on this machine reaches a service that listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(ingress.host, ingress.host)
    return f"http://{host}:{ingress.port}"


def session(ctx: typer.Context) -> Session:
    found = ctx.find_object(Session)
    assert found is not None, "the application's callback sets the session before any command"
    return found
