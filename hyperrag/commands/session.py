"""The global options: which service a command talks to, and as whom."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from hyperrag.client import Client

Collection = Annotated[str | None, typer.Option(help="Collection of documents.")]


@dataclass(frozen=True, slots=True)
class Session:
    url: str | None
    api_key_file: Path | None
    timeout_s: float

    def client(self) -> Client:
        """Options win over the environment, the environment over the configuration's default.
        Raises ConfigError when the key file cannot be read."""
        from cluster.config import load_endpoint

        endpoint = load_endpoint(self.url, self.api_key_file)
        return Client(endpoint.url, endpoint.api_key, self.timeout_s)


def session(ctx: typer.Context) -> Session:
    found = ctx.find_object(Session)
    assert found is not None, "the application's callback sets the session before any command"
    return found
