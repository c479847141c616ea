"""`deploy` and `undeploy`: the service on a Ray cluster that runs already."""

from typing import Annotated

import typer
import yaml

from cluster.config import load
from hyperrag.commands.output import errors
from hyperrag.commands.serve import ConfigFile, Insecure, overrides, print_urls

Address = Annotated[
    str,
    typer.Option(
        help="The Ray cluster, HOST:PORT of its head; by default the one of this machine."
    ),
]


def deploy(
    config: ConfigFile = None,
    address: Address = "auto",
    wait_s: Annotated[
        float, typer.Option(help="Longest wait until it runs, in seconds.", min=1.0)
    ] = 1800.0,
    insecure: Insecure = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the Serve configuration, with all settings; no Ray."),
    ] = False,
) -> None:
    """Start the service on a running Ray cluster, or update it, and wait until it answers.

    Run it on a machine of the cluster. What `--dry-run` prints is what `serve deploy` takes, and
    serveConfigV2 of a RayService.
    """
    from cluster.deploy import deploy, serve_schema

    settings = load(config, overrides(insecure=insecure)).resolved()
    if dry_run:
        schema = serve_schema(settings).model_dump(mode="json", exclude_unset=True)
        typer.echo(yaml.safe_dump(schema, sort_keys=False, allow_unicode=True), nl=False)
        return
    from cluster.running import attached, service_urls

    with attached(address):
        deploy(settings, progress=errors.print, deadline_s=wait_s)
        print_urls(service_urls(settings.ingress), "`hyperrag undeploy` stops it")


def undeploy(address: Address = "auto") -> None:
    """Stop the service and its store on a running Ray cluster; Ray itself goes on.

    Requests in progress get their grace period. Corpus and segments on SSD stay.
    """
    from cluster.running import attached
    from cluster.running import undeploy as stop

    with attached(address):
        stop()
