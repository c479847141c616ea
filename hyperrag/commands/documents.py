"""`ingest`, `documents` and `delete`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from actors.messages import Document
from cluster.config import load
from hyperrag.commands.output import AsJson, console, errors, excerpt, print_json
from hyperrag.commands.session import Collection, session
from hyperrag.commands.store import fill
from hyperrag.results import IngestReport


def ingest(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(help="Files, or folders of .txt, .md, .jsonl, .parquet.")
    ],
    collection: Collection = None,
    precompute: Annotated[
        bool, typer.Option("--precompute", help="Then fill the store with their segments.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add documents, or replace those whose text changed."""
    with session(ctx).client() as client:
        with _progress() as progress:
            task = progress.add_task("Ingesting", counts="")

            def show(sent: int, total: IngestReport) -> None:
                progress.update(task, counts=f"{sent} documents, {total.num_passages} passages")

            report = client.ingest(_documents(paths), collection, show)
        if precompute:
            fill(client, collection)
    if as_json:
        print_json(report)
        return
    console.print(
        f"{report.added} added, {report.updated} updated, {report.unchanged} unchanged; "
        f"{report.num_passages} new passages; corpus version {report.version}"
    )


def _documents(paths: Sequence[Path]) -> Iterator[Document]:
    """Read as they are sent. Raises RequestError that names the file, the line and the field."""
    from actors.retrieval.readers import read_paths

    return read_paths(paths, load().retrieval.max_document_bytes)


def _progress() -> Progress:
    """On standard error, so that `--json` output stays clean."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=errors, transient=True)


def documents(ctx: typer.Context, collection: Collection = None, as_json: AsJson = False) -> None:
    """List the documents of a collection."""
    with session(ctx).client() as client:
        found = list(client.documents(collection))
    if as_json:
        print_json(found)
        return
    table = Table("id", "characters", "passages")
    for item in found:
        table.add_row(excerpt(item.id, 80), str(item.num_chars), str(item.num_passages))
    console.print(table)


def delete(
    ctx: typer.Context,
    ids: Annotated[list[str], typer.Argument(help="Ids of documents.")],
    collection: Collection = None,
    as_json: AsJson = False,
) -> None:
    """Take documents out of search at once, and their segments out of the store."""
    with session(ctx).client() as client:
        reports = [client.delete(document_id, collection) for document_id in ids]
    if as_json:
        print_json(reports)
    else:
        console.print(f"{len(reports)} deleted")
