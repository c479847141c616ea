"""`fit-fusion`: how much the cosine should count beside the log-likelihood."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from actors.errors import RequestError
from hyperrag.client import Client
from hyperrag.commands.output import AsJson, console, errors, print_json
from hyperrag.commands.session import Collection, session
from hyperrag.errors import HyperRagError, UnreachableError
from hyperrag.results import Source


@dataclass(frozen=True, slots=True)
class Judged:
    """A question and the document that answers it; `where` is its file and line."""

    where: str
    question: str
    document_id: str


def fit_fusion(
    ctx: typer.Context,
    questions: Annotated[
        Path,
        typer.Argument(help='Lines of {"question": ..., "document_id": ...}, the right document.'),
    ],
    collection: Collection = None,
    top_n: Annotated[int | None, typer.Option(help="Candidates to rerank.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fit reranker.dense_weight on questions whose right document is known.

    Prints 0 where the cosine does not help beyond noise.
    """
    from actors.fusion import fit_weight

    judged = list(read_judged(questions))
    with session(ctx).client() as client:
        found = _ask(client, judged, collection, top_n)
    right = [
        [source.document_id == one.document_id for source in sources]
        for one, sources in zip(judged, found, strict=True)
    ]
    try:
        fitted = fit_weight(
            [[_log_likelihood(source) for source in sources] for sources in found],
            [[source.cosine for source in sources] for sources in found],
            right,
        )
    except ValueError as error:
        raise RequestError(str(questions), str(error)) from error
    config = f"reranker: {{dense_weight: {fitted.weight:.3g}}}"
    if as_json:
        print_json({**asdict(fitted), "config": config})
        return
    console.print(f"{sum(map(any, right))} of {len(right)} right documents were found")
    console.print(
        f"Held-out MRR: {fitted.mrr_alone:.4f} by log-likelihood alone, {fitted.gain:+.4f} with "
        f"the cosine, 95 % interval {fitted.low:+.4f} to {fitted.high:+.4f}"
    )
    if not fitted.weight:
        console.print(f"Not beyond noise: weight 0 (the best would be {fitted.best:.3g})")
    console.print(config, markup=False)


def _log_likelihood(source: Source) -> float:
    return math.nan if source.log_likelihood is None else source.log_likelihood


def read_judged(file: Path) -> Iterator[Judged]:
    """Raises RequestError that names the file, the line and the field."""
    from actors.retrieval.records import parse_object

    empty = True
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    empty = False
                    yield _judged(parse_object(line, f"{file}:{number}"), f"{file}:{number}")
    except OSError as error:
        raise RequestError(str(file), f"cannot be read: {error.strerror or error}") from error
    if empty:
        raise RequestError(str(file), "is an empty file; expected one JSON object a line")


def _judged(record: dict[str, object], where: str) -> Judged:
    texts = []
    for name in ("question", "document_id"):
        value = record.get(name)
        if not isinstance(value, str) or not value.strip():
            raise RequestError(f"{where}.{name}", f"is {value!r}, must be a text that is not empty")
        texts.append(value)
    return Judged(where, *texts)


def _ask(
    client: Client, judged: Sequence[Judged], collection: str | None, top_n: int | None
) -> list[tuple[Source, ...]]:
    found = []
    for one in track(judged, "Reranking", console=errors, transient=True):
        try:
            ranked = client.candidates(one.question, collection=collection, top_n=top_n)
        except UnreachableError:
            raise
        except HyperRagError as error:
            message = f"{one.where}: {error.message}"
            raise HyperRagError(message, error.status, error.param) from error
        found.append(ranked.sources)
    return found
