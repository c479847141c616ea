"""`ask` and `rerank`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hyperrag.commands.output import AsJson, console, excerpt, print_json
from hyperrag.commands.session import Collection, session
from hyperrag.results import Answer, CacheReport


def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    collection: Collection = None,
    top_n: Annotated[int | None, typer.Option(help="Candidates to rerank.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Passages to answer from.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, in tokens.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print words as they come.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask a question about the ingested documents."""
    options = {
        "collection": collection,
        "top_n": top_n,
        "top_k": top_k,
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    with session(ctx).client() as client:
        if stream and not as_json:
            answer = _print_pieces(client.ask_stream(question, **options))
        else:
            answer = client.ask(question, **options)
            if as_json:
                print_json(answer)
                return
            console.print(escape(answer.answer))
    _print_sources(answer)
    _print_report(answer)


def _print_pieces(pieces: Iterator[str | Answer]) -> Answer:
    """Prints the pieces as they come; the transport raises if the whole answer never does."""
    answer: Answer | None = None
    for piece in pieces:
        if isinstance(piece, Answer):
            answer = piece
        else:
            sys.stdout.write(piece)
            sys.stdout.flush()
    sys.stdout.write("\n")
    assert answer is not None, "ask_stream ended without an answer and without an error"
    return answer


def _print_sources(answer: Answer) -> None:
    table = Table("", "document", "characters", "score", "text", title="Sources")
    for rank, source in enumerate(answer.sources, start=1):
        span = f"{source.start}-{source.end}"
        text = excerpt(source.text, 70)
        table.add_row(str(rank), escape(source.document_id), span, f"{source.score:.3f}", text)
    console.print(table)


def _print_report(answer: Answer) -> None:
    times = ", ".join(f"{stage} {ms:.0f}" for stage, ms in answer.timings_ms.items())
    console.print(f"Milliseconds: {times}")
    for stage, report in answer.cache.items():
        console.print(f"Cache, {stage}: {_summary(report)}")


def _summary(report: CacheReport) -> str:
    if report.store != "used":
        return f"store {report.store}"
    return (
        f"{report.device_hits} hits on the device, {report.dram_hits} in DRAM, "
        f"{report.ssd_hits} on SSD, {report.peer_hits} on other nodes, "
        f"{report.remote_hits} remote, {report.computed} computed; "
        f"{report.tokens_reused} tokens reused, {report.tokens_computed} computed, "
        f"{report.bytes_moved / 2**20:.1f} MiB read"
    )


def rerank(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What the documents should answer.")],
    documents: Annotated[list[str] | None, typer.Argument(help="Texts to order.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Texts to order, one a line; - is standard input.")
    ] = None,
    top_n: Annotated[int | None, typer.Option(help="Print only the best so many.")] = None,
    as_json: AsJson = False,
) -> None:
    """Order texts by how well they answer a query."""
    texts = [*(documents or ()), *(_lines(file) if file else ())]
    if not texts:
        raise typer.BadParameter("give texts as arguments or with --file", param_hint="DOCUMENTS")
    with session(ctx).client() as client:
        ranking = client.rerank(query, texts, top_n)
    if as_json:
        print_json(ranking)
        return
    table = Table("", "score", "text")
    for rank, result in enumerate(ranking.results, start=1):
        table.add_row(str(rank), f"{result.relevance_score:.4f}", excerpt(texts[result.index], 90))
    console.print(table)


def _lines(file: Path) -> list[str]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="--file") from error
    return [line for line in text.split("\n") if line.strip()]
