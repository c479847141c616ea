"""`serve`: the whole service on this machine, until Ctrl-C."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from cluster.config import load
from hyperrag.commands.output import console, errors
from hyperrag.commands.session import service_url

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="YAML file; defaults stand for what it omits.")
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure", help="Listen beyond loopback without API keys: for closed networks."
    ),
]


def serve(
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; loopback by default.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to bind.", min=1, max=65535)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of corpus and segments.")] = None,
    insecure: Insecure = False,
) -> None:
    """Start a local Ray cluster with the service, print its URLs, and wait.

    Ctrl-C, at any moment, stops everything that was started.
    """
    from cluster.deploy import deploy
    from cluster.local import LocalCluster

    settings = load(config, overrides(host, port, data_dir, insecure)).resolved()
    with LocalCluster(settings), errors.status("Starting") as status:
        deploy(settings, progress=status.update)
        status.stop()
        print_urls([service_url(settings.ingress)], "Ctrl-C stops it")
        threading.Event().wait()


def overrides(
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    insecure: bool = False,
) -> dict[str, object]:
    """What the command line says, as keys of the configuration; nothing for what it omits."""
    given = {
        "ingress.host": host,
        "ingress.port": port,
        "data_dir": data_dir and str(data_dir),
        "ingress.insecure": insecure or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def print_urls(urls: list[str], how_to_stop: str) -> None:
    """`urls`: any of them will do."""
    url = urls[0]
    console.print(f"HyperRAG is ready at [bold]{', '.join(urls)}[/bold]  ({how_to_stop})")
    console.print(f"  questions        POST {url}/v1/rag/query")
    console.print(f"  OpenAI clients   base_url={url}/v1")
    console.print(f"  documents        POST {url}/v1/documents")
    console.print(f"  reference        {url}/docs")
