"""`status`, `check`, `drain`, `warm` and `fuse`: looking after the service and its store."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from hyperrag.client import Client
from hyperrag.commands.output import AsJson, console, errors, print_json, print_tree
from hyperrag.commands.session import Collection, session


def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Show deployments, the store's nodes and tiers, and hit rates."""
    with session(ctx).client() as client:
        data = client.status()
    _show(data, as_json)


def drain(
    ctx: typer.Context,
    node: Annotated[str, typer.Argument(help="Its name or id, as `hyperrag status` has it.")],
    as_json: AsJson = False,
) -> None:
    """Have a node give its segments to the others, before you take it away. `hyperrag status` shows
    `moving` until it has."""
    with session(ctx).client() as client:
        _show(client.drain(node), as_json)


def check(
    ctx: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is damaged; it is computed again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify every segment of the store; exit status 1 when something is wrong, or could not
    be looked at."""
    with session(ctx).client() as client:
        report = client.check(repair)
    _show(report, as_json)
    if not report.get("ok", False):
        raise typer.Exit(1)
    if not as_json:
        console.print("The books balance.")


def fill(client: Client, collection: str | None) -> dict[str, Any]:
    """The service's last report; the ones before it are shown while they come."""
    return _followed(client.warm(collection))


def _followed(events: Iterator[dict[str, Any]]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    with errors.status("Filling the store") as status:
        for report in events:
            status.update(f"Filling the store: {report.get('num_passages')} passages")
    return report


def warm(ctx: typer.Context, collection: Collection = None, as_json: AsJson = False) -> None:
    """Compute the segments of a collection's passages ahead of questions."""
    with session(ctx).client() as client:
        _show(fill(client, collection), as_json)


def fuse(ctx: typer.Context, collection: Collection = None, as_json: AsJson = False) -> None:
    """Make each passage's segment in sight of its nearest passages, for generator.mode fusion and
    auto. Run it again when documents were added: what is still right is left alone."""
    with session(ctx).client() as client:
        _show(_followed(client.fuse(collection)), as_json)


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        print_tree(report)
